// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_smooth(const se_exec* exec, int32_t threshold_q8, const se_array* disparity, const se_array* out) {
  SE_TRY(check_exec(exec));
  if (threshold_q8 < 0) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(disparity, 1u << SE_FLOAT32, 1, 1));
  SE_TRY(check_plane(out, SE_FLOAT32, *disparity));
  SE_TRY(check_disjoint(*out, *disparity));
  const SmoothArgs args{view_of<const float>(*disparity), view_of<float>(*out), threshold_q8};
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  // Chunks are tall, since each converts the rows round it again.
  return run_rows(*exec, out->height, 32, args, op_table(exec->isa).smooth_rows,
                  int64_t{4} * 7 * (out->width + 2 * kMostLanes + 2 * kSmoothReach));
}
