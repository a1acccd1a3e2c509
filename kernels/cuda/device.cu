// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "secondeye/secondeye.h"

extern "C" {

int32_t se_cuda_compiled(void) { return 1; }

int32_t se_cuda_device_count(void) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();  // no driver is an answer, not a fault that a later launch should report
    return 0;
  }
  return count;
}

}  // extern "C"
