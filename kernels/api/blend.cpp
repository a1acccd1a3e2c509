// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_feather(const se_exec* exec, int32_t radius, const se_array* mask, const se_array* out) {
  SE_TRY(check_exec(exec));
  if (radius < 0 || radius > 16) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(mask, 1u << SE_UINT8, 1, 1));
  SE_TRY(check_plane(out, SE_UINT8, *mask));
  SE_TRY(check_disjoint(*out, *mask));
  const FeatherArgs args{view_of<const uint8_t>(*mask), view_of<uint8_t>(*out), radius};
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  // A chunk counts the rows round its first one anew.
  return run_rows(*exec, out->height, 64, args, op_table(exec->isa).feather_rows, static_cast<int64_t>(out->width));
}

extern "C" int32_t se_blend(const se_exec* exec, const se_array* base, const se_array* over, const se_array* mask,
                            const se_array* out) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_array(base, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_array(over, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_array(out, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_same_shape(*over, *base));
  SE_TRY(check_same_shape(*out, *base));
  SE_TRY(check_plane(mask, SE_UINT8, *base));
  SE_TRY(check_disjoint(*out, *base));
  SE_TRY(check_disjoint(*out, *over));
  SE_TRY(check_disjoint(*out, *mask));
  const BlendArgs args{view_of<const uint8_t>(*base), view_of<const uint8_t>(*over), view_of<const uint8_t>(*mask),
                       view_of<uint8_t>(*out)};
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).blend_rows);
}
