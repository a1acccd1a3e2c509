// SPDX-License-Identifier: Apache-2.0
// Every block program on the host: the CUDA kernels' bodies, thread after thread. For tests, not for speed.
#include <cstring>

#include "core/system.h"
#include "cuda/launch.h"

namespace se {
namespace {

template <typename Program>
int32_t run(const typename Program::Args& args) {
  const Grid grid = Program::grid(args);
  const size_t bytes = (static_cast<size_t>(grid.shared_bytes) + 63) / 64 * 64 + 64;
  void* shared = aligned_memory(bytes);
  if (shared == nullptr) return SE_ERROR_OUT_OF_MEMORY;
  for (int32_t y = 0; y < grid.y; ++y) {
    for (int32_t x = 0; x < grid.x; ++x) {
      std::memset(shared, 0xcd, bytes);  // what a block finds is anything
      for (int32_t k = 0; k < Program::kPhases; ++k) {
        // Another order in every phase: the counts are powers of two, so an odd step meets every thread.
        for (int32_t i = 0; i < Program::kThreads; ++i) {
          const int32_t thread = (i * (2 * (k + y) + 37) + y) & (Program::kThreads - 1);
          Program::phase(k, args, Block{x, y, thread, shared});
        }
      }
    }
  }
  free_aligned(shared);
  return SE_OK;
}

}  // namespace

#define SE_DEFINE(Program)                               \
  int32_t run_on_host(const base::Program::Args& args) { \
    static_assert((base::Program::kThreads & (base::Program::kThreads - 1)) == 0, "a power of two"); \
    return run<base::Program>(args);                     \
  }
SE_PROGRAMS(SE_DEFINE)
#undef SE_DEFINE

}  // namespace se
