// SPDX-License-Identifier: Apache-2.0
#include "arrays.h"

namespace se_py {
namespace {

void pack(int32_t layout, const py::array& left, const py::array& right, py::array& out, int32_t threads,
          int32_t isa) {
  const se_array l = view(left, Axes::HWC, false, "pack");
  const se_array r = view(right, Axes::HWC, false, "pack");
  const se_array o = view(out, Axes::HWC, true, "pack");
  const se_exec exec = cpu_exec(threads, isa);
  int32_t status;
  {
    py::gil_scoped_release release;
    status = se_pack(&exec, layout, &l, &r, &o);
  }
  raise_status(status, "pack");
}

}  // namespace

void bind_pack(py::module_& m) {
  m.def("pack", &pack, py::arg("layout"), py::arg("left"), py::arg("right"), py::arg("out"), py::arg("threads"),
        py::arg("isa"));
}

}  // namespace se_py
