// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_level(const se_exec* exec, float scale, float offset, const se_array* disparity, const se_array* out) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_array(disparity, 1u << SE_FLOAT32, 1, 1));
  SE_TRY(check_plane(out, SE_FLOAT32, *disparity));
  if (!(scale - scale == 0.0f) || !(offset - offset == 0.0f)) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_disjoint(*out, *disparity));
  const LevelArgs args{view_of<const float>(*disparity), view_of<float>(*out), scale, offset};
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).level_rows);
}
