// SPDX-License-Identifier: Apache-2.0
// Python arrays as se_array views, and status codes as exceptions. No copies.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>

#include "secondeye/secondeye.h"

namespace se_py {

namespace py = pybind11;

// Thrown with the C status; module.cpp turns it into secondeye.runtime.errors' classes by code.
inline void raise_status(int32_t status, const char* op) {
  if (status == SE_OK) return;
  const py::object errors = py::module_::import("secondeye.runtime.errors");
  const py::object error = errors.attr("from_status")(status, op, se_status_string(status));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

inline int32_t dtype_of(const py::array& a) {
  const char kind = a.dtype().kind();
  const py::ssize_t size = a.dtype().itemsize();
  if (!py::dtype(a.dtype()).attr("isnative").cast<bool>()) return -1;
  if (kind == 'u' && size == 1) return SE_UINT8;
  if (kind == 'b' && size == 1) return SE_UINT8;
  if (kind == 'u' && size == 2) return SE_UINT16;
  if (kind == 'f' && size == 2) return SE_FLOAT16;
  if (kind == 'f' && size == 4) return SE_FLOAT32;
  if (kind == 'i' && size == 4) return SE_INT32;
  return -1;
}

enum class Axes { HW, HWC, CHW };

// Sizes over int32 become 0, which the C interface refuses.
inline int32_t size32(py::ssize_t n) { return n > 0x7fffffff ? 0 : static_cast<int32_t>(n); }

// A view of `a`; `writable` arrays must be. Raises InvalidInputError by status on anything that does not fit.
inline se_array view(const py::array& a, Axes axes, bool writable, const char* op) {
  const py::ssize_t want = axes == Axes::HW ? 2 : 3;
  if (a.ndim() != want) raise_status(SE_ERROR_BAD_SHAPE, op);
  const int32_t dtype = dtype_of(a);
  if (dtype < 0) raise_status(SE_ERROR_BAD_DTYPE, op);
  if (writable && !a.writeable()) raise_status(SE_ERROR_BAD_ALIAS, op);
  se_array v{};
  v.data = const_cast<void*>(a.data());
  v.dtype = dtype;
  const int y = axes == Axes::CHW ? 1 : 0;
  v.height = size32(a.shape(y));
  v.width = size32(a.shape(y + 1));
  v.stride_y = a.strides(y);
  v.stride_x = a.strides(y + 1);
  v.channels = 1;
  v.stride_c = py::ssize_t{a.itemsize()};
  if (axes != Axes::HW) {
    const int c = axes == Axes::CHW ? 0 : 2;
    v.channels = size32(a.shape(c));
    v.stride_c = a.strides(c);
  }
  return v;
}

inline se_exec cpu_exec(int32_t threads, int32_t isa) {
  se_exec exec{};
  exec.device = SE_CPU;
  exec.threads = threads;
  exec.isa = isa;
  return exec;
}

// Defined in bind_pixels.cpp; called by module.cpp.
void bind_pixels(py::module_& m);

}  // namespace se_py
