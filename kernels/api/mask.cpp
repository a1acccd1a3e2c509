// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_inpaint_mask(const se_exec* exec, const se_mask_params* params, const se_array* holes,
                                   const se_array* map, const se_array* out) {
  SE_TRY(check_exec(exec));
  if (params == nullptr) return SE_ERROR_NULL_POINTER;
  if (params->eye != SE_EYE_RIGHT && params->eye != SE_EYE_LEFT) return SE_ERROR_BAD_PARAMETER;
  if (params->close < 0 || params->close > 4 || params->speck < 0 || params->speck > 4) return SE_ERROR_BAD_PARAMETER;
  const int32_t grown[3] = {params->grow_far, params->grow_near, params->tall};
  for (const int32_t n : grown)
    if (n < 0 || n > 64) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(holes, 1u << SE_UINT8, 1, 1));
  SE_TRY(check_plane(map, SE_INT32, *holes));
  SE_TRY(check_plane(out, SE_UINT8, *holes));
  SE_TRY(check_disjoint(*out, *holes));
  SE_TRY(check_disjoint(*out, *map));
  MaskArgs args{view_of<const uint8_t>(*holes), view_of<const int32_t>(*map), view_of<uint8_t>(*out), params->close,
                params->speck, params->grow_far, params->grow_near, params->tall};
  if (params->eye == SE_EYE_LEFT) {
    args.holes = mirrored(args.holes);
    args.map = mirrored(args.map);
    args.out = mirrored(args.out);
  }
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, base::kMaskBand, args, op_table(exec->isa).mask_rows, base::mask_scratch(args));
}

extern "C" int32_t se_mask_cells(const se_exec* exec, int32_t side, int32_t area, const se_array* mask,
                                 const se_array* out) {
  SE_TRY(check_exec(exec));
  if (side < 1 || side > 256) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(mask, 1u << SE_UINT8, 1, 1));
  SE_TRY(check_array(out, 1u << SE_UINT8, 1, 1));
  if (out->height != (mask->height + side - 1) / side || out->width != (mask->width + side - 1) / side)
    return SE_ERROR_BAD_SHAPE;
  SE_TRY(check_disjoint(*out, *mask));
  const CellsArgs args{view_of<const uint8_t>(*mask), view_of<uint8_t>(*out), side, area};
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, 4, args, op_table(exec->isa).cells_rows);
}
