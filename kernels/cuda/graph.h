// SPDX-License-Identifier: Apache-2.0
// Memory on a device, streams of our own, and a frame's launches as one CUDA graph.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace se {

// Null when there is none to be had. On CUDA the current device's; else the host's, 64-byte aligned.
void* frame_memory(int32_t device, size_t bytes);
void free_frame_memory(int32_t device, void* memory);
// A table's values to where the frame's memory is. Gives an se_status.
int32_t fill_frame_memory(int32_t device, void* to, const void* from, size_t bytes);

// Memory on the host, zeros at first, that a device's copies reach directly: page-locked beside CUDA. Null when there is
// none to be had.
void* host_memory(int32_t device, size_t bytes);
void free_host_memory(int32_t device, void* memory);

// The calling thread's GPU; 0 on the CPU. A thread begins with the first.
int32_t current_gpu(int32_t device);
int32_t use_gpu(int32_t device, int32_t gpu);
// Another GPU as the calling thread's, for as long as this is there.
class OnGpu {
 public:
  OnGpu(int32_t device, int32_t gpu) : device_(device), before_(current_gpu(device)), status_(use_gpu(device, gpu)) {}
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;
  ~OnGpu() { (void)use_gpu(device_, before_); }
  int32_t status() const { return status_; }

 private:
  const int32_t device_, before_, status_;
};

// Owns what one of the two pairs above gives. Its constructor throws std::bad_alloc.
enum class Storage { HOST, DEVICE };
template <Storage storage>
class Memory {
 public:
  Memory() = default;
  Memory(int32_t device, size_t bytes)
      : device_(device), data_(storage == Storage::HOST ? host_memory(device, bytes) : frame_memory(device, bytes)), bytes_(bytes) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Memory(Memory&& from) noexcept { swap(from); }
  Memory& operator=(Memory&& from) noexcept {
    swap(from);
    return *this;
  }
  ~Memory() {
    if (data_ != nullptr) storage == Storage::HOST ? free_host_memory(device_, data_) : free_frame_memory(device_, data_);
  }
  template <typename T>
  T* as() const { return static_cast<T*>(data_); }
  uint8_t* data() const { return as<uint8_t>(); }
  size_t size() const { return bytes_; }

 private:
  void swap(Memory& from) {
    std::swap(device_, from.device_);
    std::swap(data_, from.data_);
    std::swap(bytes_, from.bytes_);
  }
  int32_t device_ = 0;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};
using HostMemory = Memory<Storage::HOST>;
using DeviceMemory = Memory<Storage::DEVICE>;

// A stream of its own; on the CPU none, and what is queued is done at once.
class Lane {
 public:
  explicit Lane(int32_t device) : device_(device) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  ~Lane();
  int32_t open();
  int32_t up(void* to, const void* from, size_t bytes);
  int32_t down(void* to, const void* from, size_t bytes);
  int32_t finish();  // waits for all that was queued
  void* stream() const { return stream_; }

 private:
  const int32_t device_;
  void* stream_ = nullptr;
};

// A point in a stream's work, for others to wait for. One that was never set is over.
class Mark {
 public:
  Mark() = default;
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  ~Mark();
  int32_t open(int32_t device);
  int32_t set(void* stream);     // after what is queued there now
  int32_t follow(void* stream);  // what is queued there from now on comes after it
  int32_t wait();

 private:
  int32_t device_ = 0;
  [[maybe_unused]] void* event_ = nullptr;  // a cudaEvent_t; a build without CUDA has no use for it
};

// Queues what `record` queues, on `stream`: from the graph that is there when it is the same as before, else recorded anew;
// where the launches are alike and only their arguments differ, the graph is changed instead of made.
class FrameGraph {
 public:
  FrameGraph() = default;
  FrameGraph(const FrameGraph&) = delete;
  FrameGraph& operator=(const FrameGraph&) = delete;
  ~FrameGraph();
  using Record = int32_t (*)(void* user, void* stream);
  int32_t run(bool same, bool alike, void* stream, Record record, void* user);

 private:
  [[maybe_unused]] void* recording_ = nullptr;  // a cudaStream_t of our own
  [[maybe_unused]] void* graph_ = nullptr;      // a cudaGraphExec_t
};

}  // namespace se
