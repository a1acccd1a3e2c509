// SPDX-License-Identifier: Apache-2.0
// Every block program as a CUDA kernel.
#include <cuda_runtime.h>

#include "cuda/launch.h"

namespace se {
namespace {

constexpr int64_t kMuchShared = 16 * 1024;

template <typename Program>
__global__ void __launch_bounds__(Program::kThreads) block_kernel(const typename Program::Args args) {
  extern __shared__ Chunk16 shared[];
  const Block block{(int32_t)blockIdx.x, (int32_t)blockIdx.y, (int32_t)threadIdx.x, shared};
#pragma unroll
  for (int32_t k = 0; k < Program::kPhases; ++k) {
    if (k > 0) __syncthreads();
    Program::phase(k, args, block);
  }
}

template <typename Program>
int32_t launch(const typename Program::Args& args, void* stream) {
  const Grid grid = Program::grid(args);
  if (grid.shared_bytes > kPlainShared &&
      cudaFuncSetAttribute(block_kernel<Program>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           (int)grid.shared_bytes) != cudaSuccess) {
    (void)cudaGetLastError();  // answered here; a later launch should not report it
    return SE_ERROR_DEVICE_LIMIT;
  }
  if (grid.shared_bytes >= kMuchShared) {
    // More blocks at once: all of the first-level cache as shared memory. A hint, given once.
    static const cudaError_t hinted =
        cudaFuncSetAttribute(block_kernel<Program>, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
    if (hinted != cudaSuccess) (void)cudaGetLastError();
  }
  block_kernel<Program><<<dim3((unsigned)grid.x, (unsigned)grid.y), Program::kThreads, (size_t)grid.shared_bytes,
                          static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError() == cudaSuccess ? SE_OK : SE_ERROR_CUDA;
}

}  // namespace

#define SE_DEFINE(Program) \
  int32_t launch_on_device(const base::Program::Args& args, void* stream) { return launch<base::Program>(args, stream); }
SE_PROGRAMS(SE_DEFINE)
#undef SE_DEFINE

}  // namespace se
