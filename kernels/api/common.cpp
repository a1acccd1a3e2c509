// SPDX-License-Identifier: Apache-2.0
// The C interface: version, machine, error strings. Each op's entry is kernels/api/<op>.cpp.
#include "core/system.h"
#include "secondeye/secondeye.h"

using namespace se;

extern "C" {

const char* se_version(void) { return SE_VERSION_STRING; }

int32_t se_cpu_count(void) { return cpu_count(); }

const char* se_status_string(int32_t status) {
  switch (status) {
    case SE_OK: return "ok";
    case SE_ERROR_NULL_POINTER: return "a required pointer is null";
    case SE_ERROR_BAD_DTYPE: return "an array has an element type that this operation does not take";
    case SE_ERROR_BAD_SHAPE: return "an array's size is zero, over 16384, or does not match its partner's";
    case SE_ERROR_BAD_STRIDE: return "an array's strides or address do not step by whole elements";
    case SE_ERROR_BAD_PARAMETER: return "a parameter is outside its range";
    case SE_ERROR_NO_BACKEND: return "this build or this machine has no such backend";
    case SE_ERROR_CUDA: return "the CUDA runtime refused the launch";
    case SE_ERROR_OUT_OF_MEMORY: return "memory for scratch rows could not be had";
    case SE_ERROR_BAD_ALIAS: return "an output overlaps an input or another output";
    case SE_ERROR_BUSY: return "no room, or no result, in the time allowed";
    case SE_ERROR_CLOSED: return "the session has ended";
    case SE_ERROR_MODEL: return "the depth network cannot be had";
    case SE_ERROR_DEVICE_LIMIT: return "the rows of a picture this wide do not fit into this GPU's shared memory; use a smaller one";
    case SE_ERROR_FORKED: return "this process was forked from the one that made the session, and has none of its threads; make another one here";
    case SE_ERROR_DEVICE_LOST: return "the session's GPU failed, and the session has ended; make another one";
    default: return "unknown status";
  }
}

}  // extern "C"
