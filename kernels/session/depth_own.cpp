// SPDX-License-Identifier: Apache-2.0
// A depth network by our own kernels, on the CPU.
#include <fstream>

#include "core/system.h"
#include "net/network.h"
#include "session/depth_engine.h"

namespace se {
namespace {

class OwnEngine final : public DepthEngine {
 public:
  OwnEngine(const std::vector<char>& onnx, int32_t threads) : network_(onnx.data(), onnx.size(), SE_ISA_AUTO), threads_(threads) {}

  DepthInput input() override { return {network_.fixed_height(), network_.fixed_width()}; }

  std::string metadata(const char* key) override {
    const auto at = network_.metadata().find(key);
    return at == network_.metadata().end() ? std::string() : at->second;
  }

  void add(DepthShape* shape) override {
    if (network_.channels() != 1) throw std::runtime_error("not a depth model that a session takes: one float32 map as output is wanted.");
    network_.shape(shape->height, shape->width, &shape->map_height, &shape->map_width);
    shape->output.assign(static_cast<size_t>(shape->map_height) * static_cast<size_t>(shape->map_width), 0.0f);
    const std::string error = run(shape, 0);
    if (!error.empty()) throw std::runtime_error(error);
  }

  std::string run(DepthShape* shape, size_t) override {
    const int32_t status = network_.run(threads_, shape->input.as<float>(), shape->height, shape->width, shape->output.data(),
                                        shape->map_height, shape->map_width, &stopped_);
    return status == SE_OK ? std::string() : std::string("the depth network: ") + se_status_string(status);
  }

  void stop() override { stopped_.store(true); }
  int64_t bytes() override { return network_.bytes(); }

 private:
  Network network_;
  const int32_t threads_;
  std::atomic<bool> stopped_{false};
};

}  // namespace

std::unique_ptr<DepthEngine> open_in_kernels(const DepthSettings& settings) {
  if (settings.device != SE_CPU) return nullptr;
  std::ifstream file(path_of(settings.model), std::ios::binary | std::ios::ate);
  if (!file) return nullptr;  // ONNX Runtime says why
  constexpr std::streamoff kMost = std::streamoff{1} << 28;  // far over any network that these kernels are meant for
  const std::streamoff size = file.tellg();
  if (size < 0 || size > kMost) return nullptr;
  std::vector<char> onnx(static_cast<size_t>(size));
  file.seekg(0);
  if (!file.read(onnx.data(), size)) return nullptr;
  try {
    return std::make_unique<OwnEngine>(onnx, settings.threads);
  } catch (const Unfit&) {
    return nullptr;
  }
}

}  // namespace se
