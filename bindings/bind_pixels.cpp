// SPDX-License-Identifier: Apache-2.0
// Bindings of the ops on whole pictures. Each releases the GIL while its kernel runs.
#include "arrays.h"

namespace se_py {
namespace {

template <typename Call>
void run(const char* op, Call call) {
  int32_t status;
  {
    py::gil_scoped_release release;
    status = call();
  }
  raise_status(status, op);
}

void warp(int32_t eye, int32_t law, int32_t tear_q8, bool wrap, const py::array& source, const py::array& disparity,
          py::array& out, py::array& holes, const py::object& map, int32_t threads, int32_t isa) {
  const se_array s = view(source, Axes::HWC, false, "warp"), d = view(disparity, Axes::HW, false, "warp");
  const se_array o = view(out, Axes::HWC, true, "warp"), h = view(holes, Axes::HW, true, "warp");
  se_array m{};
  const bool with_map = !map.is_none();
  if (with_map) m = view(map.cast<py::array>(), Axes::HW, true, "warp");
  const se_warp_params params{eye, law, tear_q8, wrap ? 1 : 0};
  const se_exec exec = cpu_exec(threads, isa);
  run("warp", [&] { return se_warp(&exec, &params, &s, &d, &o, &h, with_map ? &m : nullptr); });
}

void fill(int32_t eye, const py::array& source, const py::array& holes, const py::array& map, py::array& out,
          int32_t threads, int32_t isa) {
  const se_array v = view(source, Axes::HWC, false, "fill"), h = view(holes, Axes::HW, false, "fill");
  const se_array m = view(map, Axes::HW, false, "fill"), o = view(out, Axes::HWC, true, "fill");
  const se_exec exec = cpu_exec(threads, isa);
  run("fill", [&] { return se_fill(&exec, eye, &v, &h, &m, &o); });
}

void inpaint_mask(int32_t eye, const std::array<int32_t, 5>& sizes, const py::array& holes, const py::array& map,
                  py::array& out, int32_t threads, int32_t isa) {
  const se_array h = view(holes, Axes::HW, false, "inpaint_mask"), m = view(map, Axes::HW, false, "inpaint_mask");
  const se_array o = view(out, Axes::HW, true, "inpaint_mask");
  const se_mask_params params{eye, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};
  const se_exec exec = cpu_exec(threads, isa);
  run("inpaint_mask", [&] { return se_inpaint_mask(&exec, &params, &h, &m, &o); });
}

void mask_cells(int32_t side, bool area, const py::array& mask, py::array& out, int32_t threads, int32_t isa) {
  const se_array m = view(mask, Axes::HW, false, "mask_cells"), o = view(out, Axes::HW, true, "mask_cells");
  const se_exec exec = cpu_exec(threads, isa);
  run("mask_cells", [&] { return se_mask_cells(&exec, side, area ? 1 : 0, &m, &o); });
}

using Table = py::array_t<int32_t, py::array::c_style>;

se_resample_axis axis_of(const Table& first, const Table& count, const Table& weights) {
  if (first.ndim() != 1 || count.ndim() != 1 || weights.ndim() != 2 || first.shape(0) != count.shape(0) ||
      first.shape(0) != weights.shape(0))
    raise_status(SE_ERROR_BAD_SHAPE, "resample");
  return se_resample_axis{first.data(), count.data(), weights.data(), size32(first.shape(0)),
                          size32(weights.shape(1))};
}

void resample(const py::array& source, const Table& fx, const Table& cx, const Table& wx, const Table& fy,
              const Table& cy, const Table& wy, py::array& out, int32_t threads, int32_t isa) {
  const se_array s = view(source, Axes::HWC, false, "resample"), o = view(out, Axes::HWC, true, "resample");
  const se_resample_axis x = axis_of(fx, cx, wx), y = axis_of(fy, cy, wy);
  const se_exec exec = cpu_exec(threads, isa);
  run("resample", [&] { return se_resample(&exec, &s, &x, &y, &o); });
}

void resample_tensor(const py::array& source, const Table& fx, const Table& cx, const Table& wx, const Table& fy,
                     const Table& cy, const Table& wy, const std::array<float, 3>& gain,
                     const std::array<float, 3>& bias, py::array& out, int32_t threads, int32_t isa) {
  const se_array s = view(source, Axes::HWC, false, "prepare"), o = view(out, Axes::CHW, true, "prepare");
  const se_resample_axis x = axis_of(fx, cx, wx), y = axis_of(fy, cy, wy);
  const se_exec exec = cpu_exec(threads, isa);
  run("prepare", [&] { return se_resample_tensor(&exec, &s, &x, &y, gain.data(), bias.data(), &o); });
}

void upsample(int32_t threshold_q8, const py::array& map, const py::array& picture, py::array& out, int32_t threads,
              int32_t isa) {
  const se_array m = view(map, Axes::HW, false, "upsample"), p = view(picture, Axes::HWC, false, "upsample");
  const se_array o = view(out, Axes::HW, true, "upsample");
  const se_exec exec = cpu_exec(threads, isa);
  run("upsample", [&] { return se_upsample(&exec, threshold_q8, &m, &p, &o); });
}

void widen(int32_t radius, int32_t threshold_q8, const py::array& disparity, py::array& out, int32_t threads,
           int32_t isa) {
  const se_array d = view(disparity, Axes::HW, false, "widen"), o = view(out, Axes::HW, true, "widen");
  const se_exec exec = cpu_exec(threads, isa);
  run("widen", [&] { return se_widen(&exec, radius, threshold_q8, &d, &o); });
}

void anaglyph(const std::array<int32_t, 18>& matrix, const py::array& left, const py::array& right, py::array& out,
              int32_t threads, int32_t isa) {
  const se_array l = view(left, Axes::HWC, false, "anaglyph"), r = view(right, Axes::HWC, false, "anaglyph");
  const se_array o = view(out, Axes::HWC, true, "anaglyph");
  const se_exec exec = cpu_exec(threads, isa);
  run("anaglyph", [&] { return se_anaglyph(&exec, matrix.data(), &l, &r, &o); });
}

void pack(int32_t layout, const py::array& left, const py::array& right, py::array& out, int32_t threads,
          int32_t isa) {
  const se_array l = view(left, Axes::HWC, false, "pack"), r = view(right, Axes::HWC, false, "pack");
  const se_array o = view(out, Axes::HWC, true, "pack");
  const se_exec exec = cpu_exec(threads, isa);
  run("pack", [&] { return se_pack(&exec, layout, &l, &r, &o); });
}

}  // namespace

void bind_pixels(py::module_& m) {
  m.def("anaglyph", &anaglyph);
  m.def("fill", &fill);
  m.def("inpaint_mask", &inpaint_mask);
  m.def("mask_cells", &mask_cells);
  m.def("pack", &pack);
  m.def("resample", &resample);
  m.def("resample_tensor", &resample_tensor);
  m.def("upsample", &upsample);
  m.def("warp", &warp);
  m.def("widen", &widen);
}

}  // namespace se_py
