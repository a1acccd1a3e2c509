// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_widen(const se_exec* exec, int32_t radius, int32_t threshold_q8, const se_array* disparity,
                            const se_array* out) {
  SE_TRY(check_exec(exec));
  if (radius < 0 || radius > 16 || threshold_q8 < 0) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(disparity, 1u << SE_FLOAT32, 1, 1));
  SE_TRY(check_plane(out, SE_FLOAT32, *disparity));
  SE_TRY(check_disjoint(*out, *disparity));
  const WidenArgs args{view_of<const float>(*disparity), view_of<float>(*out), radius, threshold_q8};
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  // Chunks are tall, since each converts the rows round it again.
  return run_rows(*exec, out->height, 16 + 8 * radius, args, op_table(exec->isa).widen_rows,
                  int64_t{4} * ((2 * radius + 2) * (int64_t{out->width} + kMostLanes) + 2 * radius));
}
