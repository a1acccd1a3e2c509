// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

namespace {

constexpr uint32_t kPixels = 1u << SE_UINT8 | 1u << SE_FLOAT16 | 1u << SE_FLOAT32;

int32_t check_common(const se_warp_params* params, const se_array* source, const se_array* disparity) {
  if (params == nullptr) return SE_ERROR_NULL_POINTER;
  if (params->law != SE_WARP_SURFACE && params->law != SE_WARP_NEAREST) return SE_ERROR_BAD_PARAMETER;
  if (params->tear_q8 < 256 || params->tear_q8 > 16384) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(source, kPixels, 1, 4));
  if (disparity != nullptr && disparity->dtype == SE_FLOAT16) return check_plane(disparity, SE_FLOAT16, *source);
  return check_plane(disparity, SE_FLOAT32, *source);
}

// One view's arrays, checked; scale_q8 under 0 is a view from the left.
int32_t add_view(WarpViewsArgs& args, const se_warp_params& params, const se_array& source, const se_array& disparity,
                 int32_t scale_q8, const se_array* out, const se_array* holes, const se_array* map) {
  SE_TRY(check_array(out, kPixels, 1, 4));
  SE_TRY(check_same_shape(source, *out));
  if (out->dtype != source.dtype) return SE_ERROR_BAD_DTYPE;
  SE_TRY(check_plane(holes, SE_UINT8, source));
  if (map != nullptr) SE_TRY(check_plane(map, SE_INT32, source));
  for (const se_array* written : {out, holes, map}) {
    if (written == nullptr) continue;
    SE_TRY(check_disjoint(*written, source));
    SE_TRY(check_disjoint(*written, disparity));
  }
  SE_TRY(check_disjoint(*out, *holes));
  WarpArgs& view = args.views[args.count++];
  view = WarpArgs{view_of<const uint8_t>(source), view_of<const float>(disparity), view_of<uint8_t>(*out),
                  view_of<uint8_t>(*holes), {}, source.dtype, disparity.dtype, params.law, params.tear_q8, params.wrap,
                  scale_q8 < 0 ? -scale_q8 : scale_q8};
  if (map != nullptr) {
    SE_TRY(check_disjoint(*map, *out));
    SE_TRY(check_disjoint(*map, *holes));
    view.map = view_of<int32_t>(*map);
  }
  if (scale_q8 < 0) {
    view.source = mirrored(view.source);
    view.disparity = mirrored(view.disparity);
    view.out = mirrored(view.out);
    view.holes = mirrored(view.holes);
    if (map != nullptr) view.map = mirrored(view.map);
  }
  return SE_OK;
}

int32_t run(const se_exec& exec, const WarpViewsArgs& args, const se_array& out) {
  if (runs_blocks(exec)) {
    bool packed = true;
    for (int32_t k = 0; k < args.count; ++k) packed = packed && base::WarpPackedBlocks::takes(args.views[k]);
    return packed ? run_blocks(exec, WarpPackedArgs{args}) : run_blocks(exec, args);
  }
  return run_rows(exec, out.height, grain_of(out), args, op_table(exec.isa).warp_rows, int64_t{8} * out.width);
}

}  // namespace

extern "C" int32_t se_warp(const se_exec* exec, const se_warp_params* params, const se_array* source,
                           const se_array* disparity, const se_array* out, const se_array* holes,
                           const se_array* map) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_common(params, source, disparity));
  if (params->eye != SE_EYE_RIGHT && params->eye != SE_EYE_LEFT) return SE_ERROR_BAD_PARAMETER;
  WarpViewsArgs args;
  args.count = 0;
  SE_TRY(add_view(args, *params, *source, *disparity, params->eye == SE_EYE_LEFT ? -256 : 256, out, holes, map));
  return run(*exec, args, *out);
}

extern "C" int32_t se_warp_views(const se_exec* exec, const se_warp_params* params, const se_array* source,
                                 const se_array* disparity, int32_t count, const se_warp_view* views) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_common(params, source, disparity));
  if (views == nullptr) return SE_ERROR_NULL_POINTER;
  if (count < 1 || count > SE_MAX_VIEWS) return SE_ERROR_BAD_PARAMETER;
  WarpViewsArgs args;
  args.count = 0;
  for (int32_t k = 0; k < count; ++k) {
    const se_warp_view& v = views[k];
    if (v.scale_q8 < -256 || v.scale_q8 > 256) return SE_ERROR_BAD_PARAMETER;
    SE_TRY(add_view(args, *params, *source, *disparity, v.scale_q8, &v.out, &v.holes,
                    v.map.data == nullptr ? nullptr : &v.map));
    for (int32_t other = 0; other < k; ++other)
      for (const se_array* mine : {&v.out, &v.holes, &v.map})
        for (const se_array* theirs : {&views[other].out, &views[other].holes, &views[other].map})
          if (mine->data != nullptr && theirs->data != nullptr) SE_TRY(check_disjoint(*mine, *theirs));
  }
  return run(*exec, args, views[0].out);
}
