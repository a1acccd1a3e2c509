// SPDX-License-Identifier: Apache-2.0
// Arrays as se_array views, and status codes as exceptions. No copies.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "secondeye/secondeye.h"

namespace se_py {

namespace py = pybind11;

// Python up to 3.13 ends a thread that comes for the GIL at the interpreter's end by unwinding it, through objects that
// need the GIL to go. Such a thread stays where it is instead, as in later Pythons; the process's end takes it along.
// `work` calls C alone, which throws nothing else.
template <typename Work>
auto or_stay(Work work) {
  try {
    return work();
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// Lets Python's threads go on while something of ours, which does not throw, works.
template <typename Work>
void without_gil(Work work) {
  PyThreadState* const thread = PyEval_SaveThread();
  work();
  or_stay([&] { PyEval_RestoreThread(thread); });
}

// Thrown with the C status; module.cpp turns it into secondeye.runtime.errors' classes by code.
inline void raise_status(int32_t status, const char* op) {
  if (status == SE_OK) return;
  const py::object errors = py::module_::import("secondeye.runtime.errors");
  const py::object error = errors.attr("from_status")(status, op, se_status_string(status));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

inline int32_t dtype_of(const py::dtype& type) {
  const char kind = type.kind();
  const py::ssize_t size = type.itemsize();
  if (!type.attr("isnative").cast<bool>()) return -1;
  if (kind == 'u' && size == 1) return SE_UINT8;
  if (kind == 'b' && size == 1) return SE_UINT8;
  if (kind == 'u' && size == 2) return SE_UINT16;
  if (kind == 'f' && size == 2) return SE_FLOAT16;
  if (kind == 'f' && size == 4) return SE_FLOAT32;
  if (kind == 'i' && size == 4) return SE_INT32;
  return -1;
}

enum class Axes { W, HW, HWC, CHW };

// Sizes over int32 become 0, which the C interface refuses.
inline int32_t size32(py::ssize_t n) { return n > 0x7fffffff ? 0 : static_cast<int32_t>(n); }

// One call of an op: views of its arrays, all on the host or all on a device, and how to run it.
class Call {
 public:
  Call(const char* op, int32_t threads, int32_t isa) : op_(op) {
    exec_.threads = threads;
    exec_.isa = isa;
  }

  // A view of a numpy array or of a runtime.ops._arrays.DeviceArray; `writable` ones must be. Raises InvalidInputError
  // on anything that does not fit.
  se_array view(const py::object& a, Axes axes, bool writable) {
    if (py::isinstance<py::array>(a)) {
      const py::array host = py::reinterpret_borrow<py::array>(a);
      where(SE_CPU, nullptr);
      if (writable && !host.writeable()) refuse("an output is read-only");
      std::vector<py::ssize_t> shape(host.shape(), host.shape() + host.ndim());
      std::vector<py::ssize_t> strides(host.strides(), host.strides() + host.ndim());
      return view_of(const_cast<void*>(host.data()), host.dtype(), shape, strides, axes);
    }
    if (!py::hasattr(a, "ptr")) raise_status(SE_ERROR_BAD_DTYPE, op_);
    where(SE_CUDA, reinterpret_cast<void*>(a.attr("stream").cast<uintptr_t>()));
    if (writable && a.attr("readonly").cast<bool>()) refuse("an output is read-only");
    return view_of(reinterpret_cast<void*>(a.attr("ptr").cast<uintptr_t>()), py::dtype(a.attr("dtype")),
                   a.attr("shape").cast<std::vector<py::ssize_t>>(),
                   a.attr("strides").cast<std::vector<py::ssize_t>>(), axes);
  }

  void fail(int32_t status) const { raise_status(status, op_); }
  bool on_host() const { return exec_.device == SE_CPU; }
  void* stream() const { return exec_.stream; }

  template <typename Run>
  void run(Run run) const {
    int32_t status = SE_OK;
    without_gil([&] { status = run(&exec_); });
    raise_status(status, op_);
  }

 private:
  void refuse(const char* why) const {
    const py::object errors = py::module_::import("secondeye.runtime.errors");
    PyErr_SetString(errors.attr("InvalidInputError").ptr(), (std::string(op_) + ": " + why).c_str());
    throw py::error_already_set();
  }

  void where(int32_t device, void* stream) {
    if (placed_ && exec_.device != device) refuse("some arrays lie on the host and some on a GPU; bring them together");
    placed_ = true;
    exec_.device = device;
    if (exec_.stream == nullptr) exec_.stream = stream;
  }

  se_array view_of(void* data, const py::dtype& type, const std::vector<py::ssize_t>& shape,
                   const std::vector<py::ssize_t>& strides, Axes axes) const {
    const size_t want = axes == Axes::W ? 1 : (axes == Axes::HW ? 2 : 3);
    if (shape.size() != want || strides.size() != want) raise_status(SE_ERROR_BAD_SHAPE, op_);
    se_array v{};
    v.data = data;
    v.dtype = dtype_of(type);
    if (v.dtype < 0) raise_status(SE_ERROR_BAD_DTYPE, op_);
    const size_t x = axes == Axes::W ? 0 : (axes == Axes::CHW ? 2 : 1);
    v.height = axes == Axes::W ? 1 : size32(shape[x - 1]);
    v.width = size32(shape[x]);
    v.stride_y = axes == Axes::W ? 0 : strides[x - 1];
    v.stride_x = strides[x];
    v.channels = 1;
    v.stride_c = type.itemsize();
    if (axes == Axes::HWC || axes == Axes::CHW) {
      const size_t c = axes == Axes::CHW ? 0 : 2;
      v.channels = size32(shape[c]);
      v.stride_c = strides[c];
    }
    return v;
  }

  const char* op_;
  se_exec exec_{};
  bool placed_ = false;
};

// Called by module.cpp.
void bind_pixels(py::module_& m);
void bind_session(py::module_& m);
void bind_frame(py::module_& m);
void bind_network(py::module_& m);

}  // namespace se_py
