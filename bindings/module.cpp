// SPDX-License-Identifier: Apache-2.0
// The kernels as Python functions over numpy arrays. Arguments are checked by the C interface; the GIL is released
// while a kernel runs. The public functions, with shapes and defaults, are in secondeye.runtime.ops.
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
}  // namespace se_py

PYBIND11_MODULE(_native, m) {
  using namespace se_py;
  m.doc() = "SecondEye's pixel kernels. Use secondeye.runtime.ops, which documents and checks them.";
  m.def("version", [] { return se_version(); });
  m.def("cpu_count", [] { return se_cpu_count(); });
  m.def("cuda_compiled", [] { return se_cuda_compiled() != 0; });
  m.def("cuda_device_count", [] { return se_cuda_device_count(); });
  m.def("isa_supported", [](int32_t isa) { return se_cpu_isa_supported(isa) != 0; });
  m.def("pack", &pack, py::arg("layout"), py::arg("left"), py::arg("right"), py::arg("out"), py::arg("threads"),
        py::arg("isa"));
}
