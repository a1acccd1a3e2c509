// SPDX-License-Identifier: Apache-2.0
// The same for a build without nvcc: the host alone.
#include <cstring>

#include "core/system.h"
#include "cuda/graph.h"
#include "secondeye/interop.h"

namespace se {

void* frame_memory(int32_t device, size_t bytes) {
  return device == SE_CPU ? aligned_memory(bytes) : nullptr;
}
void free_frame_memory(int32_t, void* memory) { free_aligned(memory); }
int32_t fill_frame_memory(int32_t, void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return SE_OK;
}
void* host_memory(int32_t device, size_t bytes) {
  void* memory = frame_memory(device, bytes);
  return memory == nullptr ? nullptr : std::memset(memory, 0, bytes);
}
void free_host_memory(int32_t, void* memory) { free_aligned(memory); }
int32_t current_gpu(int32_t) { return 0; }
int32_t use_gpu(int32_t device, int32_t) { return device == SE_CPU ? SE_OK : SE_ERROR_NO_BACKEND; }
Lane::~Lane() = default;
int32_t Lane::open() { return device_ == SE_CPU ? SE_OK : SE_ERROR_NO_BACKEND; }
int32_t Lane::up(void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return SE_OK;
}
int32_t Lane::down(void* to, const void* from, size_t bytes) { return up(to, from, bytes); }
int32_t Lane::finish() { return SE_OK; }
Mark::~Mark() = default;
int32_t Mark::open(int32_t device) {
  device_ = device;
  return device == SE_CPU ? SE_OK : SE_ERROR_NO_BACKEND;
}
int32_t Mark::set(void*) { return SE_OK; }
int32_t Mark::follow(void*) { return SE_OK; }
int32_t Mark::wait() { return SE_OK; }
FrameGraph::~FrameGraph() = default;
int32_t FrameGraph::run(bool, bool, void*, Record, void*) { return SE_ERROR_NO_BACKEND; }

}  // namespace se

extern "C" {

int32_t se_external_memory_import(intptr_t, uint64_t, int32_t, se_external_memory** memory) {
  if (memory == nullptr) return SE_ERROR_NULL_POINTER;
  *memory = nullptr;
  return SE_ERROR_NO_BACKEND;
}
void* se_external_memory_data(const se_external_memory*) { return nullptr; }
void se_external_memory_release(se_external_memory*) {}
int32_t se_external_semaphore_import(intptr_t, int32_t, se_external_semaphore** semaphore) {
  if (semaphore == nullptr) return SE_ERROR_NULL_POINTER;
  *semaphore = nullptr;
  return SE_ERROR_NO_BACKEND;
}
int32_t se_external_wait(se_external_semaphore* semaphore, uint64_t, void*) {
  return semaphore == nullptr ? SE_ERROR_NULL_POINTER : SE_ERROR_NO_BACKEND;
}
int32_t se_external_signal(se_external_semaphore* semaphore, uint64_t, void*) {
  return semaphore == nullptr ? SE_ERROR_NULL_POINTER : SE_ERROR_NO_BACKEND;
}
void se_external_semaphore_release(se_external_semaphore*) {}
int32_t se_gl_register_buffer(uint32_t, se_gl_resource** resource) {
  if (resource == nullptr) return SE_ERROR_NULL_POINTER;
  *resource = nullptr;
  return SE_ERROR_NO_BACKEND;
}
int32_t se_gl_register_texture(uint32_t texture, uint32_t, se_gl_resource** resource) { return se_gl_register_buffer(texture, resource); }
void se_gl_release(se_gl_resource*) {}
// There is never a resource.
int32_t se_gl_map(se_gl_resource*, void*) { return SE_ERROR_NULL_POINTER; }
int32_t se_gl_unmap(se_gl_resource*, void*) { return SE_ERROR_NULL_POINTER; }
void* se_gl_data(const se_gl_resource*, uint64_t* bytes) {
  if (bytes != nullptr) *bytes = 0;
  return nullptr;
}
int32_t se_gl_write(se_gl_resource*, const se_array*, void*) { return SE_ERROR_NULL_POINTER; }
int32_t se_gl_read(se_gl_resource*, const se_array*, void*) { return SE_ERROR_NULL_POINTER; }

}  // extern "C"
