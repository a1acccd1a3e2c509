// SPDX-License-Identifier: Apache-2.0
// Small networks by our own kernels.
#include <memory>

#include "arrays.h"
#include "secondeye/network.h"

namespace se_py {
namespace {

class Network {
 public:
  // Raises ValueError, with what it would need, for a network that the kernels do not run.
  Network(const py::buffer& onnx, int32_t isa) {
    const py::buffer_info bytes = onnx.request();
    se_network* made = nullptr;
    char message[256] = "";
    int32_t status = SE_OK;
    without_gil([&] {
      status = se_network_open(bytes.ptr, static_cast<size_t>(bytes.size * bytes.itemsize), isa, &made, message, sizeof message);
    });
    if (status == SE_ERROR_MODEL) throw py::value_error(message);
    raise_status(status, "network");
    network_.reset(made);
  }

  py::object metadata(const char* key) const {
    const char* found = se_network_metadata(network_.get(), key);
    if (found == nullptr) return py::none();
    return py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(found, static_cast<py::ssize_t>(std::strlen(found)), "replace"));
  }

  std::tuple<int32_t, int32_t> input() const {
    int32_t height, width;
    raise_status(se_network_input(network_.get(), &height, &width), "network");
    return {height, width};
  }

  // Channels, height and width of the map.
  std::tuple<int32_t, int32_t, int32_t> shape(int32_t height, int32_t width) const {
    int32_t high, wide, channels;
    raise_status(se_network_shape(network_.get(), height, width, &high, &wide, &channels), "network");
    return {channels, high, wide};
  }

  void run(const py::object& picture, const py::object& map, int32_t threads) const {
    Call call("network", threads, 0);
    const se_array in = call.view(picture, Axes::CHW, false), out = call.view(map, Axes::CHW, true);
    call.run([&](const se_exec* exec) { return se_network_run(network_.get(), exec, &in, &out); });
  }

 private:
  struct Close {
    void operator()(se_network* network) const { se_network_close(network); }
  };

  std::unique_ptr<se_network, Close> network_;
};

}  // namespace

void bind_network(py::module_& m) {
  py::class_<Network>(m, "Network")
      .def(py::init<const py::buffer&, int32_t>(), py::arg("onnx"), py::arg("isa"))
      .def("metadata", &Network::metadata, py::arg("key"))
      .def("input", &Network::input)
      .def("shape", &Network::shape, py::arg("height"), py::arg("width"))
      .def("run", &Network::run, py::arg("picture"), py::arg("map"), py::arg("threads"));
}

}  // namespace se_py
