// SPDX-License-Identifier: Apache-2.0
// Memory on a device, and a frame's launches as one CUDA graph.
#pragma once
#include <cstddef>
#include <cstdint>

namespace se {

// Null when there is none to be had. On CUDA the current device's; else the host's, 64-byte aligned.
void* frame_memory(int32_t device, size_t bytes);
void free_frame_memory(int32_t device, void* memory);
// A table's values to where the frame's memory is. Gives an se_status.
int32_t fill_frame_memory(int32_t device, void* to, const void* from, size_t bytes);

// A stream of its own with page-locked memory beside it; on the CPU plain memory and no stream.
class Lane {
 public:
  explicit Lane(int32_t device) : device_(device) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  ~Lane();
  int32_t open();
  void* host_memory(size_t bytes);  // null when there is none to be had; the lane's own
  int32_t up(void* to, const void* from, size_t bytes);
  int32_t down(void* to, const void* from, size_t bytes);
  int32_t finish();  // waits for all that was queued
  void* stream() const { return stream_; }

 private:
  static constexpr int32_t kMost = 4;
  const int32_t device_;
  void* stream_ = nullptr;
  void* host_[kMost] = {};
  int32_t count_ = 0;
};

// Queues what `record` queues, on `stream`: from a graph when `key` is the one before, else recorded anew.
class FrameGraph {
 public:
  FrameGraph() = default;
  FrameGraph(const FrameGraph&) = delete;
  FrameGraph& operator=(const FrameGraph&) = delete;
  ~FrameGraph();
  using Record = int32_t (*)(void* user, void* stream);
  int32_t run(bool same, void* stream, Record record, void* user);

 private:
  void* recording_ = nullptr;  // a cudaStream_t of our own
  void* graph_ = nullptr;      // a cudaGraphExec_t
};

}  // namespace se
