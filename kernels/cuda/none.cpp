// SPDX-License-Identifier: Apache-2.0
// What a build without nvcc answers.
#include "cuda/launch.h"

namespace se {
#define SE_DEFINE(Program) \
  int32_t launch_on_device(const base::Program::Args&, void*) { return SE_ERROR_NO_BACKEND; }
SE_PROGRAMS(SE_DEFINE)
#undef SE_DEFINE
}  // namespace se

extern "C" {
int32_t se_cuda_compiled(void) { return 0; }
int32_t se_cuda_device_count(void) { return 0; }
}
