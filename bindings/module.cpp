// SPDX-License-Identifier: Apache-2.0
// The kernels as Python functions over numpy arrays, and live sessions. Arguments are checked by the C interface; the GIL is released
// while a kernel runs. The public functions, with shapes and defaults, are in secondeye.runtime.ops.
#include "arrays.h"

PYBIND11_MODULE(_native, m) {
  using namespace se_py;
  m.doc() = "SecondEye's pixel kernels. Use secondeye.runtime.ops, which documents and checks them.";
  m.def("version", [] { return se_version(); });
  m.def("cpu_count", [] { return se_cpu_count(); });
  m.def("cuda_compiled", [] { return se_cuda_compiled() != 0; });
  m.def("cuda_device_count", [] { return se_cuda_device_count(); });
  m.def("isa_supported", [](int32_t isa) { return se_cpu_isa_supported(isa) != 0; });
  bind_pixels(m);
  bind_session(m);
  bind_frame(m);
  bind_network(m);
}
