// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_motion(const se_exec* exec, int32_t radius, const se_array* now, const se_array* before,
                             const se_array* start, const se_array* out) {
  SE_TRY(check_exec(exec));
  if (radius < 0 || radius > 16) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(now, 1u << SE_UINT8, 1, 1));
  SE_TRY(check_plane(before, SE_UINT8, *now));
  SE_TRY(check_array(out, 1u << SE_INT32, 3, 3));
  if (out->height != (now->height + 7) / 8 || out->width != (now->width + 7) / 8) return SE_ERROR_BAD_SHAPE;
  SE_TRY(check_disjoint(*out, *now));
  SE_TRY(check_disjoint(*out, *before));
  MotionArgs args{view_of<const uint8_t>(*now), view_of<const uint8_t>(*before), {}, view_of<int32_t>(*out), radius};
  if (start != nullptr) {
    SE_TRY(check_array(start, 1u << SE_INT32, 2, 2));
    if (start->height != out->height || start->width != out->width) return SE_ERROR_BAD_SHAPE;
    SE_TRY(check_disjoint(*out, *start));
    args.start = view_of<const int32_t>(*start);
  }
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, 1, args, op_table(exec->isa).motion_rows);
}
