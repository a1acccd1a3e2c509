// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_fill(const se_exec* exec, int32_t eye, const se_array* view, const se_array* holes,
                           const se_array* map, const se_array* out) {
  SE_TRY(check_exec(exec));
  if (eye != SE_EYE_RIGHT && eye != SE_EYE_LEFT) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(view, 1u << SE_UINT8 | 1u << SE_UINT16, 1, 4));
  SE_TRY(check_array(out, 1u << view->dtype, 1, 4));
  SE_TRY(check_same_shape(*view, *out));
  SE_TRY(check_plane(holes, SE_UINT8, *view));
  SE_TRY(check_plane(map, SE_INT32, *view));
  const bool in_place = out->data == view->data && out->stride_y == view->stride_y && out->stride_x == view->stride_x &&
                        out->stride_c == view->stride_c;
  if (!in_place) SE_TRY(check_disjoint(*out, *view));
  SE_TRY(check_disjoint(*out, *holes));
  SE_TRY(check_disjoint(*out, *map));
  FillArgs args{view_of<const uint8_t>(*view), view_of<const uint8_t>(*holes), view_of<const int32_t>(*map),
                view_of<uint8_t>(*out), view->dtype == SE_UINT16 ? 2 : 1};
  if (eye == SE_EYE_LEFT) {
    args.view = mirrored(args.view);
    args.holes = mirrored(args.holes);
    args.map = mirrored(args.map);
    args.out = mirrored(args.out);
  }
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, 4 + grain_of(*out), args, op_table(exec->isa).fill_rows,
                  int64_t{12} * view->width);
}
