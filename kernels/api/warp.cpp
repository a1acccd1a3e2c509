// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_warp(const se_exec* exec, const se_warp_params* params, const se_array* source,
                           const se_array* disparity, const se_array* out, const se_array* holes,
                           const se_array* map) {
  SE_TRY(check_exec(exec));
  if (params == nullptr) return SE_ERROR_NULL_POINTER;
  if (params->law != SE_WARP_SURFACE && params->law != SE_WARP_NEAREST) return SE_ERROR_BAD_PARAMETER;
  if (params->eye != SE_EYE_RIGHT && params->eye != SE_EYE_LEFT) return SE_ERROR_BAD_PARAMETER;
  if (params->tear_q8 < 256 || params->tear_q8 > 16384) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(source, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_array(out, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_same_shape(*source, *out));
  SE_TRY(check_plane(disparity, SE_FLOAT32, *source));
  SE_TRY(check_plane(holes, SE_UINT8, *source));
  SE_TRY(check_disjoint(*out, *source));
  SE_TRY(check_disjoint(*out, *holes));
  WarpArgs args{view_of<const uint8_t>(*source), view_of<const float>(*disparity), view_of<uint8_t>(*out),
                view_of<uint8_t>(*holes), {}, params->law, params->tear_q8, params->wrap};
  if (map != nullptr) {
    SE_TRY(check_plane(map, SE_INT32, *source));
    args.map = view_of<int32_t>(*map);
  }
  if (params->eye == SE_EYE_LEFT) {
    args.source = mirrored(args.source);
    args.disparity = mirrored(args.disparity);
    args.out = mirrored(args.out);
    args.holes = mirrored(args.holes);
    if (map != nullptr) args.map = mirrored(args.map);
  }
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).warp_rows,
                  int64_t{8} * source->width);
}
