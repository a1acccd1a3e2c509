// SPDX-License-Identifier: Apache-2.0
// The same for a build without nvcc: the host alone.
#include <cstdlib>
#include <cstring>

#include "cuda/graph.h"
#include "secondeye/secondeye.h"

namespace se {

void* frame_memory(int32_t device, size_t bytes) {
  return device == SE_CPU ? std::aligned_alloc(64, (bytes + 63) / 64 * 64) : nullptr;
}
void free_frame_memory(int32_t, void* memory) { std::free(memory); }
int32_t fill_frame_memory(int32_t, void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return SE_OK;
}
FrameGraph::~FrameGraph() = default;
int32_t FrameGraph::run(bool, void*, Record, void*) { return SE_ERROR_NO_BACKEND; }

}  // namespace se
