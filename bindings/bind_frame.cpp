// SPDX-License-Identifier: Apache-2.0
// A frame's path where its pixels are.
#include <memory>

#include "arrays.h"
#include "look.h"
#include "secondeye/frame.h"

namespace se_py {
namespace {

se_frame_config config_of(const py::dict& options) {
  const auto number = [&](const char* name) { return options[name].cast<int32_t>(); };
  se_frame_config config;
  se_frame_defaults(&config, number("width"), number("height"), number("channels"));
  config.device = number("device");
  config.isa = number("isa");
  config.threads = number("threads");
  config.nv12 = number("nv12");
  config.standard = number("standard");
  config.full_range = number("full_range");
  config.map_width = number("map_width");
  config.map_height = number("map_height");
  config.separate = number("separate");
  if (!options["widen"].is_none()) config.widen = number("widen");
  return config;
}

se_session_params params_of(const py::dict& look) {
  se_session_config defaults;
  se_session_defaults(&defaults, 16, 16, 3);
  se_session_params params = defaults.params;
  read_params(look, &params);
  return params;
}

class Frame {
 public:
  explicit Frame(const py::dict& options) {
    const se_frame_config config = config_of(options);
    device_ = config.device;
    se_frame* made = nullptr;
    char message[256] = "";
    const int32_t status = se_frame_create(&config, &made, message, sizeof message);
    if (status != SE_OK) raise_status(status, "frame");
    frame_.reset(made);
  }

  std::tuple<int32_t, int32_t, int32_t> shape(const py::dict& look) const {
    const se_session_params params = params_of(look);
    int32_t height, width, channels;
    raise_status(se_frame_shape(frame_.get(), &params, &height, &width, &channels), "frame");
    return {height, width, channels};
  }

  void run(const py::dict& look, const py::object& picture, const py::object& chroma, const py::object& nearness,
           const py::object& out) const {
    Call call("frame", 0, 0);
    const bool nv12 = !chroma.is_none();
    const se_array p = call.view(picture, nv12 ? Axes::HW : Axes::HWC, false), n = call.view(nearness, Axes::HW, false);
    const se_array c = nv12 ? call.view(chroma, Axes::HWC, false) : se_array{};
    const se_array o = call.view(out, Axes::HWC, true);
    const se_session_params params = params_of(look);
    call.run([&](const se_exec* exec) {
      if (exec->device != device_) return static_cast<int32_t>(SE_ERROR_NO_BACKEND);
      return se_frame_run(frame_.get(), &params, &p, nv12 ? &c : nullptr, &n, &o, exec->stream);
    });
  }

  int64_t bytes() const { return se_frame_bytes(frame_.get()); }

 private:
  struct Destroy {
    void operator()(se_frame* frame) const { se_frame_destroy(frame); }
  };

  std::unique_ptr<se_frame, Destroy> frame_;
  int32_t device_ = 0;
};

// Frames on the host, through lanes that take turns.
class Pipe {
 public:
  Pipe(const py::dict& options, int32_t lanes) {
    const se_frame_config config = config_of(options);
    se_frame_pipe* made = nullptr;
    int32_t status = SE_OK;
    without_gil([&] { status = se_frame_pipe_create(&config, lanes, &made, nullptr, 0); });
    raise_status(status, "pipe");
    pipe_.reset(made);
  }

  // False while every lane holds a frame.
  bool submit(const py::dict& look, const py::object& picture, const py::object& chroma, const py::object& nearness) const {
    Call call("pipe", 0, 0);
    const bool nv12 = !chroma.is_none();
    const se_array p = call.view(picture, nv12 ? Axes::HW : Axes::HWC, false), n = call.view(nearness, Axes::HW, false);
    const se_array c = nv12 ? call.view(chroma, Axes::HWC, false) : se_array{};
    if (!call.on_host()) raise_status(SE_ERROR_NO_BACKEND, "pipe");
    const se_session_params params = params_of(look);
    return went([&] { return se_frame_pipe_submit(pipe_.get(), &params, &p, nv12 ? &c : nullptr, &n); });
  }

  // False when nothing was submitted.
  bool wait(const py::object& out) const {
    Call call("pipe", 0, 0);
    const se_array o = call.view(out, Axes::HWC, true);
    if (!call.on_host()) raise_status(SE_ERROR_NO_BACKEND, "pipe");
    return went([&] { return se_frame_pipe_wait(pipe_.get(), &o); });
  }

 private:
  struct Destroy {
    void operator()(se_frame_pipe* pipe) const { se_frame_pipe_destroy(pipe); }
  };

  template <typename Work>
  static bool went(Work work) {
    int32_t status = SE_OK;
    without_gil([&] { status = work(); });
    if (status == SE_ERROR_BUSY) return false;
    raise_status(status, "pipe");
    return true;
  }

  std::unique_ptr<se_frame_pipe, Destroy> pipe_;
};

}  // namespace

void bind_frame(py::module_& m) {
  py::class_<Frame>(m, "Frame")
      .def(py::init<const py::dict&>())
      .def("shape", &Frame::shape)
      .def("run", &Frame::run)
      .def("bytes", &Frame::bytes);
  py::class_<Pipe>(m, "FramePipe")
      .def(py::init<const py::dict&, int32_t>())
      .def("submit", &Pipe::submit)
      .def("wait", &Pipe::wait);
}

}  // namespace se_py
