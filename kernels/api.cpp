// SPDX-License-Identifier: Apache-2.0
// The C interface: check, choose the table, run the rows.
#include "core/check.h"
#include "core/cpu.h"
#include "core/threads.h"
#include "cuda/launch.h"

using namespace se;

namespace {

constexpr uint32_t kUint8 = 1u << SE_UINT8;

// Rows per chunk: about 64 KiB of output, so that two threads share a small picture and none waits long at the end.
int32_t grain_of(const se_array& out) {
  const int64_t row_bytes = static_cast<int64_t>(out.width) * out.channels * dtype_size(out.dtype);
  return static_cast<int32_t>(1 + 65536 / (row_bytes + 1));
}

template <typename Args>
struct Rows {
  const Args* args;
  void (*fn)(const Args&, int32_t, int32_t);
  static void call(const void* self, int32_t y0, int32_t y1) {
    const Rows* rows = static_cast<const Rows*>(self);
    rows->fn(*rows->args, y0, y1);
  }
};

template <typename Args>
int32_t run_rows(const se_exec& exec, int32_t rows, int32_t grain, const Args& args,
                 void (*fn)(const Args&, int32_t, int32_t)) {
  const Rows<Args> bound{&args, fn};
  parallel_rows(exec.threads, rows, grain, Rows<Args>::call, &bound);
  return SE_OK;
}

}  // namespace

extern "C" {

const char* se_version(void) { return SE_VERSION_STRING; }

int32_t se_cpu_count(void) { return cpu_count(); }

const char* se_status_string(int32_t status) {
  switch (status) {
    case SE_OK: return "ok";
    case SE_ERROR_NULL_POINTER: return "a required array is missing";
    case SE_ERROR_BAD_DTYPE: return "an array has an element type that this operation does not take";
    case SE_ERROR_BAD_SHAPE: return "an array's size is zero, over 16384, or does not match its partner's";
    case SE_ERROR_BAD_STRIDE: return "an array's strides or address do not step by whole elements";
    case SE_ERROR_BAD_PARAMETER: return "a parameter is outside its range";
    case SE_ERROR_NO_BACKEND: return "this build or this machine has no such backend";
    case SE_ERROR_CUDA: return "the CUDA runtime refused the launch";
    case SE_ERROR_OUT_OF_MEMORY: return "memory for scratch rows could not be had";
    case SE_ERROR_BAD_ALIAS: return "an output overlaps an input";
    default: return "unknown status";
  }
}

int32_t se_pack(const se_exec* exec, int32_t layout, const se_array* left, const se_array* right,
                const se_array* out) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_array(left, kUint8, 1, 4));
  SE_TRY(check_array(right, kUint8, 1, 4));
  if (layout != SE_PACK_SBS && layout != SE_PACK_TB) return SE_ERROR_BAD_PARAMETER;
  // The output's own limits are the inputs', doubled along the packed axis.
  SE_TRY(check_array(out, kUint8, 1, 4));
  SE_TRY(check_same_shape(*left, *right));
  const int32_t wide = layout == SE_PACK_SBS ? 2 : 1;
  const int32_t tall = layout == SE_PACK_TB ? 2 : 1;
  if (out->height != left->height * tall || out->width != left->width * wide || out->channels != left->channels)
    return SE_ERROR_BAD_SHAPE;
  SE_TRY(check_disjoint(*out, *left));
  SE_TRY(check_disjoint(*out, *right));
  const PackArgs args{view_of<const uint8_t>(*left), view_of<const uint8_t>(*right), view_of<uint8_t>(*out), layout};
  if (exec->device == SE_CUDA) return cuda_pack(args, exec->stream);
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).pack_rows);
}

}  // extern "C"
