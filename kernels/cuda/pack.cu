// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "cuda/launch.h"

namespace se {
namespace {

__global__ void pack_kernel(PackArgs p) {
  const int32_t x = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t y = blockIdx.y;
  if (x >= p.out.width) return;
  for (int32_t c = 0; c < p.out.channels; ++c) *p.out.at(y, x, c) = base::pack_pixel(p, y, x, c);
}

}  // namespace

int32_t cuda_pack(const PackArgs& args, void* stream) {
  const dim3 grid((args.out.width + 255) / 256, args.out.height);
  pack_kernel<<<grid, 256, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError() == cudaSuccess ? SE_OK : SE_ERROR_CUDA;
}

}  // namespace se
