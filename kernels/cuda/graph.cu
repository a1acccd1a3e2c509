// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cstring>
#include <new>

#include "core/system.h"
#include "cuda/graph.h"
#include "secondeye/secondeye.h"

namespace se {
namespace {

int32_t status_of(cudaError_t error) {
  if (error == cudaSuccess) return SE_OK;
  (void)cudaGetLastError();  // answered here; a later launch should not report it
  return error == cudaErrorMemoryAllocation ? SE_ERROR_OUT_OF_MEMORY : SE_ERROR_CUDA;
}

}  // namespace

void* frame_memory(int32_t device, size_t bytes) {
  void* memory = nullptr;
  if (device == SE_CPU) return aligned_memory(bytes);
  return status_of(cudaMalloc(&memory, bytes)) == SE_OK ? memory : nullptr;
}

void free_frame_memory(int32_t device, void* memory) {
  if (device == SE_CPU)
    free_aligned(memory);
  else
    (void)cudaFree(memory);  // waits for the work that uses it
}

int32_t fill_frame_memory(int32_t device, void* to, const void* from, size_t bytes) {
  if (device == SE_CPU) {
    std::memcpy(to, from, bytes);
    return SE_OK;
  }
  const int32_t status = status_of(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  return status == SE_OK ? status_of(cudaStreamSynchronize(nullptr)) : status;  // streams of our own do not wait for that copy
}

void* host_memory(int32_t device, size_t bytes) {
  void* memory = nullptr;
  if (device == SE_CPU)
    memory = frame_memory(device, bytes);
  else if (status_of(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault)) != SE_OK)
    memory = nullptr;
  return memory == nullptr ? nullptr : std::memset(memory, 0, bytes);
}

void free_host_memory(int32_t device, void* memory) {
  if (device == SE_CPU)
    free_aligned(memory);
  else if (memory != nullptr)
    (void)cudaFreeHost(memory);
}

int32_t current_gpu(int32_t device) {
  int gpu = 0;
  return device != SE_CPU && status_of(cudaGetDevice(&gpu)) == SE_OK ? gpu : 0;
}

int32_t use_gpu(int32_t device, int32_t gpu) { return device == SE_CPU ? SE_OK : status_of(cudaSetDevice(gpu)); }

Lane::~Lane() {
  if (stream_ == nullptr) return;
  (void)cudaStreamSynchronize(static_cast<cudaStream_t>(stream_));
  (void)cudaStreamDestroy(static_cast<cudaStream_t>(stream_));
}

int32_t Lane::open() {
  if (device_ == SE_CPU) return SE_OK;
  cudaStream_t stream = nullptr;
  const int32_t status = status_of(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  stream_ = stream;
  return status;
}

int32_t Lane::up(void* to, const void* from, size_t bytes) {
  if (device_ == SE_CPU) {
    std::memcpy(to, from, bytes);
    return SE_OK;
  }
  return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream_)));
}

int32_t Lane::down(void* to, const void* from, size_t bytes) {
  if (device_ == SE_CPU) {
    std::memcpy(to, from, bytes);
    return SE_OK;
  }
  return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream_)));
}

int32_t Lane::finish() {
  return device_ == SE_CPU ? SE_OK : status_of(cudaStreamSynchronize(static_cast<cudaStream_t>(stream_)));
}

Mark::~Mark() {
  if (event_ != nullptr) (void)cudaEventDestroy(static_cast<cudaEvent_t>(event_));
}

int32_t Mark::open(int32_t device) {
  device_ = device;
  if (device == SE_CPU) return SE_OK;
  cudaEvent_t event = nullptr;
  const int32_t status = status_of(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  event_ = event;
  return status;
}

int32_t Mark::set(void* stream) {
  return device_ == SE_CPU ? SE_OK : status_of(cudaEventRecord(static_cast<cudaEvent_t>(event_), static_cast<cudaStream_t>(stream)));
}

int32_t Mark::follow(void* stream) {
  if (device_ == SE_CPU) return SE_OK;
  return status_of(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event_), 0));
}

int32_t Mark::wait() { return device_ == SE_CPU ? SE_OK : status_of(cudaEventSynchronize(static_cast<cudaEvent_t>(event_))); }

FrameGraph::~FrameGraph() {
  if (graph_ != nullptr) (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph_));
  if (recording_ != nullptr) (void)cudaStreamDestroy(static_cast<cudaStream_t>(recording_));
}

int32_t FrameGraph::run(bool same, bool alike, void* stream, Record record, void* user) {
  const auto target = static_cast<cudaStream_t>(stream);
  auto ready = static_cast<cudaGraphExec_t>(graph_);
  if (same && ready != nullptr) return status_of(cudaGraphLaunch(ready, target));
  auto recording = static_cast<cudaStream_t>(recording_);
  if (recording == nullptr) {
    const int32_t status = status_of(cudaStreamCreateWithFlags(&recording, cudaStreamNonBlocking));
    if (status != SE_OK) return status;
    recording_ = recording;
  }
  int32_t status = status_of(cudaStreamBeginCapture(recording, cudaStreamCaptureModeThreadLocal));
  if (status != SE_OK) return status;
  const int32_t recorded = record(user, recording);
  cudaGraph_t graph = nullptr;
  status = status_of(cudaStreamEndCapture(recording, &graph));
  if (recorded != SE_OK) status = recorded;
  if (status == SE_OK && ready != nullptr) {
    cudaGraphExecUpdateResultInfo info{};
    if (!alike || cudaGraphExecUpdate(ready, graph, &info) != cudaSuccess) {
      (void)cudaGetLastError();
      (void)cudaGraphExecDestroy(ready);
      graph_ = ready = nullptr;
    }
  }
  if (status == SE_OK && ready == nullptr) {
    status = status_of(cudaGraphInstantiate(&ready, graph, 0));
    if (status == SE_OK) graph_ = ready;
  }
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  return status == SE_OK ? status_of(cudaGraphLaunch(ready, target)) : status;
}

}  // namespace se
