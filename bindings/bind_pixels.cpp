// SPDX-License-Identifier: Apache-2.0
// Bindings of the ops on whole pictures. Each releases the GIL while its kernel runs.
#include "arrays.h"
#include "secondeye/session.h"

namespace se_py {
namespace {

using Any = py::object;  // a numpy array, or a DeviceArray

void warp(int32_t eye, int32_t law, int32_t tear_q8, bool wrap, const Any& source, const Any& disparity, const Any& out,
          const Any& holes, const Any& map, int32_t threads, int32_t isa) {
  Call call("warp", threads, isa);
  const se_array s = call.view(source, Axes::HWC, false), d = call.view(disparity, Axes::HW, false);
  const se_array o = call.view(out, Axes::HWC, true), h = call.view(holes, Axes::HW, true);
  const bool with_map = !map.is_none();
  const se_array m = with_map ? call.view(map, Axes::HW, true) : se_array{};
  const se_warp_params params{eye, law, tear_q8, wrap ? 1 : 0};
  call.run([&](const se_exec* exec) { return se_warp(exec, &params, &s, &d, &o, &h, with_map ? &m : nullptr); });
}

// views: (scale_q8, out, holes, map) each.
void warp_views(int32_t law, int32_t tear_q8, bool wrap, const Any& source, const Any& disparity,
                const std::vector<std::tuple<int32_t, Any, Any, Any>>& views, int32_t threads, int32_t isa) {
  Call call("warp_views", threads, isa);
  const se_array s = call.view(source, Axes::HWC, false), d = call.view(disparity, Axes::HW, false);
  std::vector<se_warp_view> list;
  for (const auto& [scale_q8, out, holes, map] : views)
    list.push_back(se_warp_view{scale_q8, call.view(out, Axes::HWC, true), call.view(holes, Axes::HW, true),
                                call.view(map, Axes::HW, true)});
  const se_warp_params params{SE_EYE_RIGHT, law, tear_q8, wrap ? 1 : 0};
  call.run([&](const se_exec* exec) {
    return se_warp_views(exec, &params, &s, &d, static_cast<int32_t>(list.size()), list.data());
  });
}

void fill(int32_t eye, const Any& source, const Any& holes, const Any& map, const Any& out, int32_t threads,
          int32_t isa) {
  Call call("fill", threads, isa);
  const se_array v = call.view(source, Axes::HWC, false), h = call.view(holes, Axes::HW, false);
  const se_array m = call.view(map, Axes::HW, false), o = call.view(out, Axes::HWC, true);
  call.run([&](const se_exec* exec) { return se_fill(exec, eye, &v, &h, &m, &o); });
}

void inpaint_mask(int32_t eye, const std::array<int32_t, 5>& sizes, const Any& holes, const Any& map, const Any& out,
                  int32_t threads, int32_t isa) {
  Call call("inpaint_mask", threads, isa);
  const se_array h = call.view(holes, Axes::HW, false), m = call.view(map, Axes::HW, false);
  const se_array o = call.view(out, Axes::HW, true);
  const se_mask_params params{eye, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};
  call.run([&](const se_exec* exec) { return se_inpaint_mask(exec, &params, &h, &m, &o); });
}

void mask_cells(int32_t side, bool area, const Any& mask, const Any& out, int32_t threads, int32_t isa) {
  Call call("mask_cells", threads, isa);
  const se_array m = call.view(mask, Axes::HW, false), o = call.view(out, Axes::HW, true);
  call.run([&](const se_exec* exec) { return se_mask_cells(exec, side, area ? 1 : 0, &m, &o); });
}

void feather(int32_t radius, const Any& mask, const Any& out, int32_t threads, int32_t isa) {
  Call call("feather", threads, isa);
  const se_array m = call.view(mask, Axes::HW, false), o = call.view(out, Axes::HW, true);
  call.run([&](const se_exec* exec) { return se_feather(exec, radius, &m, &o); });
}

void blend(const Any& base, const Any& over, const Any& mask, const Any& out, int32_t threads, int32_t isa) {
  Call call("blend", threads, isa);
  const se_array a = call.view(base, Axes::HWC, false), b = call.view(over, Axes::HWC, false);
  const se_array m = call.view(mask, Axes::HW, false), o = call.view(out, Axes::HWC, true);
  call.run([&](const se_exec* exec) { return se_blend(exec, &a, &b, &m, &o); });
}

void motion(int32_t radius, const Any& now, const Any& before, const Any& start, const Any& out, int32_t threads,
            int32_t isa) {
  Call call("motion", threads, isa);
  const se_array n = call.view(now, Axes::HW, false), b = call.view(before, Axes::HW, false);
  const bool started = !start.is_none();
  const se_array s = started ? call.view(start, Axes::HWC, false) : se_array{}, o = call.view(out, Axes::HWC, true);
  call.run([&](const se_exec* exec) { return se_motion(exec, radius, &n, &b, started ? &s : nullptr, &o); });
}

// The weights of an axis: planes of one row (first, count) and of one row per output.
struct Axis {
  Axis(Call& call, const Any& first, const Any& count, const Any& weights)
      : first_(call.view(first, Axes::W, false)), count_(call.view(count, Axes::W, false)), weights_(call.view(weights, Axes::HW, false)) {
    const int64_t tight = int64_t{4} * weights_.width;
    if (first_.dtype != SE_INT32 || count_.dtype != SE_INT32 || weights_.dtype != SE_INT32) call.fail(SE_ERROR_BAD_DTYPE);
    if (first_.width != count_.width || first_.width != weights_.height) call.fail(SE_ERROR_BAD_SHAPE);
    if (first_.stride_x != 4 || count_.stride_x != 4 || weights_.stride_x != 4 || weights_.stride_y != tight)
      call.fail(SE_ERROR_BAD_STRIDE);
  }
  se_resample_axis view() const {
    return se_resample_axis{static_cast<const int32_t*>(first_.data), static_cast<const int32_t*>(count_.data),
                            static_cast<const int32_t*>(weights_.data), first_.width, weights_.width};
  }

 private:
  se_array first_, count_, weights_;
};

void resample(const Any& source, const Any& fx, const Any& cx, const Any& wx, const Any& fy, const Any& cy,
              const Any& wy, const Any& out, int32_t threads, int32_t isa) {
  Call call("resize", threads, isa);
  const se_array s = call.view(source, Axes::HWC, false), o = call.view(out, Axes::HWC, true);
  const se_resample_axis x = Axis(call, fx, cx, wx).view(), y = Axis(call, fy, cy, wy).view();
  call.run([&](const se_exec* exec) { return se_resample(exec, &s, &x, &y, &o); });
}

void resample_tensor(const Any& source, const Any& fx, const Any& cx, const Any& wx, const Any& fy, const Any& cy,
                     const Any& wy, const std::array<float, 3>& gain, const std::array<float, 3>& bias, const Any& out,
                     int32_t threads, int32_t isa) {
  Call call("prepare", threads, isa);
  const se_array s = call.view(source, Axes::HWC, false), o = call.view(out, Axes::CHW, true);
  const se_resample_axis x = Axis(call, fx, cx, wx).view(), y = Axis(call, fy, cy, wy).view();
  call.run([&](const se_exec* exec) { return se_resample_tensor(exec, &s, &x, &y, gain.data(), bias.data(), &o); });
}

void restore(const Any& source, const std::array<float, 3>& gain, const std::array<float, 3>& bias, const Any& out,
             int32_t threads, int32_t isa) {
  Call call("restore", threads, isa);
  const se_array s = call.view(source, Axes::CHW, false), o = call.view(out, Axes::HWC, true);
  call.run([&](const se_exec* exec) { return se_restore(exec, gain.data(), bias.data(), &s, &o); });
}

void upsample(int32_t threshold_q8, const Any& map, const Any& picture, const Any& labels, const Any& out,
              int32_t threads, int32_t isa) {
  Call call("upsample", threads, isa);
  const se_array m = call.view(map, Axes::HW, false), p = call.view(picture, Axes::HWC, false);
  const bool labelled = !labels.is_none();
  const se_array l = labelled ? call.view(labels, Axes::HW, false) : se_array{}, o = call.view(out, Axes::HW, true);
  call.run([&](const se_exec* exec) { return se_upsample(exec, threshold_q8, &m, &p, labelled ? &l : nullptr, &o); });
}

void widen(int32_t radius, int32_t threshold_q8, const Any& disparity, const Any& out, int32_t threads, int32_t isa) {
  Call call("widen", threads, isa);
  const se_array d = call.view(disparity, Axes::HW, false), o = call.view(out, Axes::HW, true);
  call.run([&](const se_exec* exec) { return se_widen(exec, radius, threshold_q8, &d, &o); });
}

void smooth(int32_t threshold_q8, const Any& disparity, const Any& out, int32_t threads, int32_t isa) {
  Call call("smooth", threads, isa);
  const se_array d = call.view(disparity, Axes::HW, false), o = call.view(out, Axes::HW, true);
  call.run([&](const se_exec* exec) { return se_smooth(exec, threshold_q8, &d, &o); });
}

void anaglyph(const std::array<int32_t, 18>& matrix, const Any& left, const Any& right, const Any& out, int32_t threads,
              int32_t isa) {
  Call call("anaglyph", threads, isa);
  const se_array l = call.view(left, Axes::HWC, false), r = call.view(right, Axes::HWC, false);
  const se_array o = call.view(out, Axes::HWC, true);
  call.run([&](const se_exec* exec) { return se_anaglyph(exec, matrix.data(), &l, &r, &o); });
}

void pack(int32_t layout, const Any& left, const Any& right, const Any& out, int32_t threads, int32_t isa) {
  Call call("pack", threads, isa);
  const se_array l = call.view(left, Axes::HWC, false), r = call.view(right, Axes::HWC, false);
  const se_array o = call.view(out, Axes::HWC, true);
  call.run([&](const se_exec* exec) { return se_pack(exec, layout, &l, &r, &o); });
}

void level(float scale, float offset, const Any& disparity, const Any& out, int32_t threads, int32_t isa) {
  Call call("level", threads, isa);
  const se_array d = call.view(disparity, Axes::HW, false), o = call.view(out, Axes::HW, true);
  call.run([&](const se_exec* exec) { return se_level(exec, scale, offset, &d, &o); });
}

void nv12(int32_t standard, bool full, const Any& luma, const Any& chroma, const Any& out, int32_t threads, int32_t isa) {
  Call call("nv12", threads, isa);
  const se_array l = call.view(luma, Axes::HW, false), c = call.view(chroma, Axes::HWC, false);
  const se_array o = call.view(out, Axes::HWC, true);
  call.run([&](const se_exec* exec) { return se_nv12(exec, standard, full ? 1 : 0, &l, &c, &o); });
}

void align_edges(const Any& values, const Any& labels) {
  Call call("align_edges", 0, 0);
  const se_array v = call.view(values, Axes::HW, true), l = call.view(labels, Axes::HW, false);
  call.run([&](const se_exec*) { return se_align_edges(&v, &l); });
}

void carry_labels(const Any& now, const Any& key, const Any& labels, const Any& small, const Any& moves, const Any& parts) {
  Call call("carry_labels", 0, 0);
  const se_array n = call.view(now, Axes::HW, false), k = call.view(key, Axes::HW, false);
  const se_array l = call.view(labels, Axes::HW, false), s = call.view(small, Axes::HWC, false);
  const se_array m = call.view(moves, Axes::HWC, true), p = call.view(parts, Axes::HW, true);
  call.run([&](const se_exec*) { return se_carry_labels(&n, &k, &l, &s, &m, &p); });
}

}  // namespace

void bind_pixels(py::module_& m) {
  m.def("align_edges", &align_edges);
  m.def("anaglyph", &anaglyph);
  m.def("blend", &blend);
  m.def("carry_labels", &carry_labels);
  m.def("feather", &feather);
  m.def("fill", &fill);
  m.def("inpaint_mask", &inpaint_mask);
  m.def("level", &level);
  m.def("mask_cells", &mask_cells);
  m.def("motion", &motion);
  m.def("nv12", &nv12);
  m.def("pack", &pack);
  m.def("resample", &resample);
  m.def("resample_tensor", &resample_tensor);
  m.def("restore", &restore);
  m.def("upsample", &upsample);
  m.def("warp", &warp);
  m.def("warp_views", &warp_views);
  m.def("widen", &widen);
  m.def("smooth", &smooth);
}

}  // namespace se_py
