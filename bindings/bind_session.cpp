// SPDX-License-Identifier: Apache-2.0
// Live sessions. Python's threads go on while a call waits or works; results are views of the session's own memory,
// which goes back to it when the last of them does.
#include <chrono>
#include <memory>

#include "arrays.h"
#include "look.h"

namespace se_py {
namespace {

constexpr int32_t kSliceMs = 50;  // how long a wait goes without looking at Python's signals

// A read-only numpy view of packed bytes, which keeps `owner` alive.
py::array array_of(const se_array& a, const py::capsule& owner) {
  py::array view(py::dtype::of<uint8_t>(), {a.height, a.width, a.channels}, {a.stride_y, a.stride_x, a.stride_c}, a.data, owner);
  view.attr("setflags")(py::arg("write") = false);
  return view;
}

// The same of one on a GPU, for torch, cupy and whoever else reads __cuda_array_interface__.
struct GpuPicture {
  se_array array;
  py::capsule owner;
  py::dict interface() const {
    py::dict d;
    d["shape"] = py::make_tuple(array.height, array.width, array.channels);
    d["typestr"] = "|u1";
    d["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(array.data), false);  // torch takes no read-only ones
    d["strides"] = py::none();
    d["version"] = 3;
    return d;
  }
};

struct DepthCall;

// Owns the session, whose memory results and the pictures given to depth functions are views of: they keep it alive.
struct Holder {
  ~Holder() {
    without_gil([&] { se_session_destroy(session); });  // a depth function that waits for the GIL has to be able to end
  }

  se_session* session = nullptr;
  std::shared_ptr<DepthCall> depth;
};

// A depth function in Python. The session's thread may come back from it when the session is long gone: the thread owns
// it too, and gives it back by `release` at its end. Its members are touched with the GIL held.
struct DepthCall {
  py::object function;
  std::string error;
  std::weak_ptr<Holder> holder;

  static int32_t call(void* user, const se_array* picture, const se_array* nearness) {
    if (Py_IsInitialized() == 0) return 1;
    const PyGILState_STATE gil = or_stay([] { return PyGILState_Ensure(); });
    const int32_t code = (*static_cast<std::shared_ptr<DepthCall>*>(user))->ask(*picture, *nearness);
    PyGILState_Release(gil);
    return code;
  }

  static void release(void* user) {
    if (Py_IsInitialized() == 0) return;
    const PyGILState_STATE gil = or_stay([] { return PyGILState_Ensure(); });
    const auto call = static_cast<std::shared_ptr<DepthCall>*>(user);
    (*call)->function = py::none();  // which may hold pictures, and so the session, which holds the call
    delete call;
    PyGILState_Release(gil);
  }

 private:
  int32_t ask(const se_array& picture, const se_array& nearness) {
    std::shared_ptr<Holder> session = holder.lock();
    if (session == nullptr) return 1;  // it is being destroyed
    const py::capsule owner(new std::shared_ptr<Holder>(std::move(session)),
                            [](void* memory) { delete static_cast<std::shared_ptr<Holder>*>(memory); });
    PyObject *const view = array_of(picture, owner).release().ptr(), *const asked = function.ptr();
    try {
      const py::object answer = py::reinterpret_steal<py::object>(or_stay([&] { return PyObject_CallOneArg(asked, view); }));
      Py_DECREF(view);
      if (!answer) throw py::error_already_set();
      const py::array_t<float, py::array::c_style | py::array::forcecast> map(answer);
      if (map.ndim() != 2 || map.shape(0) != nearness.height || map.shape(1) != nearness.width) {
        error = "the depth function gave another shape than it was to";
        return 2;
      }
      std::memcpy(nearness.data, map.data(), static_cast<size_t>(map.nbytes()));
      return 0;
    } catch (py::error_already_set& raised) {
      error = raised.what();
      return 1;
    }
  }
};

struct Held {
  std::shared_ptr<Holder> holder;
  uint64_t ticket;
};

class Session {
 public:
  explicit Session(const py::dict& options) : holder_(std::make_shared<Holder>()) {
    se_session_config config;
    se_session_defaults(&config, options["width"].cast<int32_t>(), options["height"].cast<int32_t>(),
                        options["channels"].cast<int32_t>());
    config.policy = options["policy"].cast<int32_t>();
    config.slots = options["slots"].cast<int32_t>();
    config.depth_every = options["depth_every"].cast<int32_t>();
    config.deadline_ms = options["deadline_ms"].cast<float>();
    config.cheaper = options["cheaper"].cast<uint32_t>();
    config.steady = options["steady"].cast<float>();
    config.threads = options["threads"].cast<int32_t>();
    config.remember = options["remember"].cast<bool>() ? 1 : 0;
    config.device = options["device"].cast<int32_t>();
    config.isa = options["isa"].cast<int32_t>();
    config.keep_on_gpu = options["keep_on_gpu"].cast<bool>() ? 1 : 0;
    keep_on_gpu_ = config.keep_on_gpu != 0;
    nv12_ = options["nv12"].cast<int32_t>() >= 0;
    config.nv12 = nv12_ ? 1 : 0;
    if (nv12_) config.standard = options["nv12"].cast<int32_t>();
    config.key_every = options["key_every"].cast<int32_t>();
    config.full_range = options["full_range"].cast<bool>() ? 1 : 0;
    if (!options["widen"].is_none()) config.widen = options["widen"].cast<int32_t>();
    config.depth_width = options["depth_width"].cast<int32_t>();
    config.depth_height = options["depth_height"].cast<int32_t>();
    const std::string model = options["depth_model"].cast<std::string>();
    const std::string library = options["onnxruntime"].cast<std::string>();
    if (!model.empty()) {
      config.depth_model = model.c_str();
      config.onnxruntime = library.empty() ? nullptr : library.c_str();
    } else {
      holder_->depth = std::make_shared<DepthCall>(DepthCall{options["depth"], {}, holder_});
      config.depth = &DepthCall::call;
      config.depth_user = new std::shared_ptr<DepthCall>(holder_->depth);
      config.depth_release = &DepthCall::release;
    }
    read_params(options, &config.params);
    char message[512] = "";
    int32_t status = SE_OK;
    without_gil([&] { status = se_session_create(&config, &holder_->session, message, sizeof message); });
    if (status != SE_OK) {
      if (config.depth_user != nullptr) DepthCall::release(config.depth_user);
      const py::object errors = py::module_::import("secondeye.runtime.errors");
      const py::object error = errors.attr("from_status")(status, "live session", message);
      PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
      throw py::error_already_set();
    }
  }

  // Pictures that are still held keep the session's memory, not its work.
  ~Session() { se_session_close(session()); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Gives the ticket, or None when there was no room in time.
  py::object submit(const py::object& frame, int64_t timestamp, double timeout) {
    Call call("submit", 0, 0);
    const se_array a = call.view(frame, nv12_ ? Axes::HW : Axes::HWC, false);
    uint64_t ticket = 0;
    const int32_t status = in_slices(timeout, [&](int32_t ms) {
      return call.on_host() ? se_session_submit(session(), &a, timestamp, ms, &ticket)
                            : se_session_submit_on_gpu(session(), &a, call.stream(), timestamp, ms, &ticket);
    });
    if (status == SE_ERROR_BUSY) return py::none();
    raise_status(status, "submit");
    return py::int_(ticket);
  }

  // Gives (ticket, timestamp, depth_ticket, objects_ticket, flags, latency_ms, picture), or None when none was ready in time.
  py::object wait(double timeout) {
    se_session_result result{};
    const int32_t status = in_slices(timeout, [&](int32_t ms) { return se_session_wait(session(), ms, &result); });
    if (status == SE_ERROR_BUSY) return py::none();
    raise_status(status, "wait");
    const py::capsule base(new Held{holder_, result.ticket}, [](void* memory) {
      const std::unique_ptr<Held> held(static_cast<Held*>(memory));
      se_session_release(held->holder->session, held->ticket);
    });
    const py::object picture = keep_on_gpu_ ? py::cast(GpuPicture{result.picture, base}) : py::object(array_of(result.picture, base));
    return py::make_tuple(result.ticket, result.timestamp, result.depth_ticket, result.objects_ticket, result.flags, result.latency_ms,
                          picture);
  }

  void set_params(const py::dict& options) {
    se_session_params params;
    raise_status(se_session_get_params(session(), &params), "live session");
    read_params(options, &params);
    raise_status(se_session_set_params(session(), &params), "live session");
  }

  void set_overlay(const py::object& rgba, int32_t x, int32_t y, float disparity) {
    if (rgba.is_none()) return raise_status(se_session_set_overlay(session(), nullptr, 0, 0, 0), "overlay");
    Call call("overlay", 0, 0);
    const se_array a = call.view(rgba, Axes::HWC, false);
    if (!call.on_host()) raise_status(SE_ERROR_NO_BACKEND, "overlay");
    int32_t status = SE_OK;
    without_gil([&] { status = se_session_set_overlay(session(), &a, x, y, disparity); });
    raise_status(status, "overlay");
  }

  void set_mask(const py::object& mask, float disparity) {
    if (mask.is_none()) return raise_status(se_session_set_mask(session(), nullptr, 0), "mask");
    Call call("mask", 0, 0);
    const se_array a = call.view(mask, Axes::HW, false);
    if (!call.on_host()) raise_status(SE_ERROR_NO_BACKEND, "mask");
    int32_t status = SE_OK;
    without_gil([&] { status = se_session_set_mask(session(), &a, disparity); });
    raise_status(status, "mask");
  }

  // layout: (columns, rows, first, last, down, from_top). As render.
  py::object render_quilt(const std::tuple<int32_t, int32_t, float, float, float, bool>& layout, const py::object& out,
                          const py::dict& options) {
    Call call("render_quilt", 0, 0);
    const auto [columns, rows, first, last, down, from_top] = layout;
    const se_quilt quilt{columns, rows, first, last, down, from_top ? 1 : 0};
    const se_array a = call.view(out, Axes::HWC, true);
    return rendered("render_quilt", options, [&](const se_session_params* params, uint64_t* ticket) {
      return call.on_host() ? se_session_render_quilt(session(), params, &quilt, &a, ticket)
                            : se_session_render_quilt_on_gpu(session(), params, &quilt, &a, call.stream(), ticket);
    });
  }

  // views: (eye, down, shift, out) each. Gives the frame's ticket, or None before the first frame.
  py::object render(const std::vector<std::tuple<float, float, float, py::object>>& views, const py::dict& options) {
    Call call("render", 0, 0);
    std::vector<se_render_view> list;
    for (const auto& [eye, down, shift, out] : views) list.push_back({eye, down, shift, call.view(out, Axes::HWC, true)});
    const auto count = static_cast<int32_t>(list.size());
    return rendered("render", options, [&](const se_session_params* params, uint64_t* ticket) {
      return call.on_host() ? se_session_render(session(), params, count, list.data(), ticket)
                            : se_session_render_on_gpu(session(), params, count, list.data(), call.stream(), ticket);
    });
  }

  py::dict stats() {
    se_session_stats s;
    raise_status(se_session_get_stats(session(), &s), "live session");
    static const char* const names[SE_STAGES] = {"look", "depth", "warp", "pack", "total", "depth_age", "objects_age"};
    py::dict stages, all;
    for (int32_t k = 0; k < SE_STAGES; ++k) {
      const se_stage_stats& t = s.stages[k];
      stages[names[k]] = py::make_tuple(t.p50_ms, t.p90_ms, t.p99_ms, t.max_ms, t.count);
    }
    all["submitted"] = s.submitted;
    all["ready"] = s.ready;
    all["dropped"] = s.dropped;
    all["late"] = s.late;
    all["cheaper"] = s.cheaper;
    all["depth_runs"] = s.depth_runs;
    all["depth_failures"] = s.depth_failures;
    all["keys_offered"] = s.keys_offered;
    all["keys_labelled"] = s.keys_labelled;
    all["memory_bytes"] = s.memory_bytes;
    all["stages"] = stages;
    return all;
  }

  std::string depth_error() {
    return holder_->depth != nullptr && !holder_->depth->error.empty() ? holder_->depth->error : se_session_depth_error(session());
  }

  // The next key frame is copied into `picture`; gives its ticket, or None when there was none in time.
  py::object wait_key(const py::object& picture, double timeout) {
    Call call("wait_key", 0, 0);
    const se_array a = call.view(picture, Axes::HWC, true);
    if (!call.on_host()) raise_status(SE_ERROR_NO_BACKEND, "wait_key");
    uint64_t ticket = 0;
    const int32_t status = in_slices(timeout, [&](int32_t ms) { return se_session_wait_key(session(), ms, &a, &ticket); });
    if (status == SE_ERROR_BUSY) return py::none();
    raise_status(status, "wait_key");
    return py::int_(ticket);
  }

  void set_labels(uint64_t ticket, const py::object& labels) {
    if (labels.is_none()) return raise_status(se_session_set_labels(session(), ticket, nullptr), "set_labels");
    Call call("set_labels", 0, 0);
    const se_array a = call.view(labels, Axes::HW, false);
    if (!call.on_host()) raise_status(SE_ERROR_NO_BACKEND, "set_labels");
    int32_t status = SE_OK;
    without_gil([&] { status = se_session_set_labels(session(), ticket, &a); });
    raise_status(status, "set_labels");
  }

  void close() {
    without_gil([&] { se_session_close(session()); });
  }

 private:
  se_session* session() const { return holder_->session; }

  template <typename Render>
  py::object rendered(const char* name, const py::dict& options, Render render) {
    se_session_params params;
    raise_status(se_session_get_params(session(), &params), name);
    read_params(options, &params);
    uint64_t ticket = 0;
    int32_t status = SE_OK;
    without_gil([&] { status = render(&params, &ticket); });
    if (status == SE_ERROR_BUSY) return py::none();
    raise_status(status, name);
    return py::int_(ticket);
  }

  // Waits for up to `timeout` seconds (negative: without end), looking at Python's signals now and then.
  template <typename Try>
  static int32_t in_slices(double timeout, Try attempt) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begun = Clock::now();
    for (;;) {
      const double left = timeout < 0 ? 1e9 : timeout - std::chrono::duration<double>(Clock::now() - begun).count();
      const bool last = left * 1e3 <= kSliceMs;
      const int32_t ms = last ? std::max(0, static_cast<int32_t>(left * 1e3 + 0.999)) : kSliceMs;
      int32_t status = SE_OK;
      without_gil([&] { status = attempt(ms); });
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (status != SE_ERROR_BUSY || last) return status;
    }
  }

  std::shared_ptr<Holder> holder_;
  bool nv12_ = false, keep_on_gpu_ = false;
};

}  // namespace

void bind_session(py::module_& m) {
  py::class_<GpuPicture>(m, "GpuPicture").def_property_readonly("__cuda_array_interface__", &GpuPicture::interface);
  py::class_<Session>(m, "Session")
      .def(py::init<const py::dict&>())
      .def("submit", &Session::submit)
      .def("wait", &Session::wait)
      .def("set_params", &Session::set_params)
      .def("set_overlay", &Session::set_overlay)
      .def("set_mask", &Session::set_mask)
      .def("render_quilt", &Session::render_quilt)
      .def("render", &Session::render)
      .def("wait_key", &Session::wait_key)
      .def("set_labels", &Session::set_labels)
      .def("stats", &Session::stats)
      .def("depth_error", &Session::depth_error)
      .def("close", &Session::close);
}

}  // namespace se_py
