// SPDX-License-Identifier: Apache-2.0
// What a build without nvcc answers.
#include "cuda/launch.h"

namespace se {
int32_t cuda_pack(const PackArgs&, void*) { return SE_ERROR_NO_BACKEND; }
}  // namespace se

extern "C" {
int32_t se_cuda_compiled(void) { return 0; }
int32_t se_cuda_device_count(void) { return 0; }
}
