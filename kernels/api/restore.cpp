// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_restore(const se_exec* exec, const float gain[3], const float bias[3], const se_array* source,
                              const se_array* out) {
  SE_TRY(check_exec(exec));
  if (gain == nullptr || bias == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_array(source, 1u << SE_FLOAT32 | 1u << SE_FLOAT16, 3, 3));
  SE_TRY(check_array(out, 1u << SE_UINT8, 3, 4));
  if (out->height != source->height || out->width != source->width) return SE_ERROR_BAD_SHAPE;
  SE_TRY(check_disjoint(*out, *source));
  RestoreArgs args{{}, {}, view_of<uint8_t>(*out), {gain[0], gain[1], gain[2]}, {bias[0], bias[1], bias[2]}};
  if (source->dtype == SE_FLOAT32)
    args.floats = view_of<const float>(*source);
  else
    args.halves = view_of<const uint16_t>(*source);
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).restore_rows);
}
