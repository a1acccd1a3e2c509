// SPDX-License-Identifier: Apache-2.0
// How a depth network is fed, and what is made of what it gives.
#include "session/depth.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "session/depth_engine.h"

namespace se {
namespace {

AxisTable axis_of(int32_t inputs, int32_t outputs, bool area) {
  const double scale = static_cast<double>(inputs) / outputs;
  area = area && scale > 1;
  const double reach = area ? 0.5 * scale : std::max(1.0, scale);
  AxisTable table;
  std::vector<int64_t> last(outputs);
  int64_t taps = 1;
  for (int32_t i = 0; i < outputs; ++i) {
    const double centre = (i + 0.5) * scale, low = centre - reach, high = centre + reach;
    const int64_t first = std::clamp<int64_t>(static_cast<int64_t>(std::floor(area ? low : low + 0.5)), 0, inputs - 1);
    const double end = area ? std::ceil(high - 1e-9) : std::floor(high + 0.5);
    last[i] = std::clamp<int64_t>(static_cast<int64_t>(end), first + 1, inputs);
    table.first.push_back(static_cast<int32_t>(first));
    table.count.push_back(static_cast<int32_t>(last[i] - first));
    taps = std::max(taps, last[i] - first);
  }
  table.weights.assign(static_cast<size_t>(taps * outputs), 0);
  std::vector<double> exact(taps);
  std::vector<int64_t> order(taps);
  for (int32_t i = 0; i < outputs; ++i) {
    const double centre = (i + 0.5) * scale, low = centre - reach, high = centre + reach;
    double sum = 0;
    for (int64_t k = 0; k < taps; ++k) {
      const double x = static_cast<double>(table.first[i] + k);
      double w = area ? std::min(x + 1, high) - std::max(x, low) : 1.0 - std::abs((x + 0.5 - centre) / std::max(1.0, scale));
      if (x >= static_cast<double>(last[i])) w = 0;
      exact[k] = std::max(w, 0.0);
      sum += exact[k];
    }
    int32_t* whole = table.weights.data() + i * taps;
    int32_t total = 0;
    for (int64_t k = 0; k < taps; ++k) {
      exact[k] = exact[k] / sum * 16384;
      whole[k] = static_cast<int32_t>(std::floor(exact[k]));
      total += whole[k];
    }
    // What rounding down left over goes to the greatest fractions, one each.
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return whole[a] - exact[a] < whole[b] - exact[b]; });
    for (int64_t k = 0; k < 16384 - total; ++k) ++whole[order[k % taps]];
  }
  table.view = se_resample_axis{table.first.data(), table.count.data(), table.weights.data(), outputs,
                                static_cast<int32_t>(taps)};
  return table;
}

class EngineNetwork final : public DepthNetwork {
 public:
  explicit EngineNetwork(const DepthSettings& settings) : device_(settings.device), engine_(open_in_kernels(settings)) {
    if (engine_ == nullptr) engine_ = open_in_onnxruntime(settings);
    settle(settings);
  }

  int32_t width() const override { return shapes_[0].map_width; }
  int32_t height() const override { return shapes_[0].map_height; }
  bool has_small() const override { return shapes_.size() > 1; }

  int64_t bytes() const override {
    size_t bytes = 0;
    for (const DepthShape& s : shapes_) bytes += s.input.size() + s.output.size() * sizeof(float);
    return static_cast<int64_t>(bytes) + engine_->bytes();
  }

  int32_t prepare(const se_exec& exec, const se_array& frame, bool small) override {
    DepthShape& s = shapes_[small ? 1 : 0];
    const int64_t plane = int64_t{4} * s.width * s.height;
    const se_array tensor{s.input.as<void>(), s.height, s.width, 3, SE_FLOAT32, int64_t{4} * s.width, 4, plane};
    return se_resample_tensor(&exec, &frame, &s.x.view, &s.y.view, gain_.data(), bias_.data(), &tensor);
  }

  std::string run(bool small, float* nearness) override {
    DepthShape& s = shapes_[small ? 1 : 0];
    std::string error = engine_->run(&s, small ? 1 : 0);
    if (!error.empty()) return error;
    for (const float v : s.output)
      if (!std::isfinite(v)) return "the depth network gave values that are not finite";
    if (farther_) invert(s);
    if (!small) {
      std::memcpy(nearness, s.output.data(), s.output.size() * sizeof(float));
    } else {
      enlarge(s, nearness);
    }
    return {};
  }

  void stop() override { engine_->stop(); }

 private:
  // Size, normalisation and sense: what was asked for, else what the model's metadata say, else what is usual.
  void settle(const DepthSettings& settings) {
    const DepthInput fixed = engine_->input();
    const auto metadata = [&](const char* key) { return engine_->metadata(key); };
    int32_t width = settings.width, height = settings.height;
    const int32_t multiple = std::clamp(std::atoi(metadata("input_multiple").c_str()), 1, 4096);
    const bool is_fixed = fixed.height > 0 && fixed.width > 0;
    if (is_fixed) {
      height = fixed.height;
      width = fixed.width;
    } else if (width == 0 || height == 0) {
      int high = 256, wide = 384;
      std::sscanf(metadata("input_size").c_str(), "%dx%d", &high, &wide);
      const double area = static_cast<double>(high) * wide;
      const double aspect = std::clamp(static_cast<double>(settings.frame_width) / settings.frame_height, 0.25, 4.0);
      height = std::max(multiple, static_cast<int32_t>(std::nearbyint(std::sqrt(area / aspect) / multiple)) * multiple);
      width = std::max(multiple, static_cast<int32_t>(std::nearbyint(std::sqrt(area * aspect) / multiple)) * multiple);
    }
    if (width < 8 || height < 8 || width > 4096 || height > 4096)
      throw std::runtime_error("the depth network's input would be " + std::to_string(width) + " x " +
                               std::to_string(height) + "; 8 to 4096 is wanted.");
    const std::string kind = metadata("kind"), normal = metadata("normalisation");
    farther_ = settings.farther >= 0 ? settings.farther != 0 : kind == "depth";
    std::array<float, 3> mean{0, 0, 0}, std{1, 1, 1};
    if (settings.std[0] != 0) {
      mean = settings.mean;
      std = settings.std;
    } else if (normal == "imagenet" || (normal.empty() && metadata("input_multiple").empty())) {
      mean = {0.485f, 0.456f, 0.406f};
      std = {0.229f, 0.224f, 0.225f};
    } else if (normal == "half") {
      mean = std = {0.5f, 0.5f, 0.5f};
    }
    for (int c = 0; c < 3; ++c) {
      gain_[c] = static_cast<float>(1.0 / (64.0 * 255.0 * static_cast<double>(std[c])));
      bias_[c] = static_cast<float>(-static_cast<double>(mean[c]) / static_cast<double>(std[c]));
    }
    add_shape(settings, width, height);
    const int32_t half_width = width / 2 / multiple * multiple, half_height = height / 2 / multiple * multiple;
    if (settings.small && !is_fixed && half_width >= 32 && half_height >= 32)
      add_shape(settings, half_width, half_height);
  }

  void add_shape(const DepthSettings& settings, int32_t width, int32_t height) {
    DepthShape& s = shapes_.emplace_back();
    s.width = width;
    s.height = height;
    s.x = DeviceAxis(device_, bilinear_axis(settings.frame_width, width));
    s.y = DeviceAxis(device_, bilinear_axis(settings.frame_height, height));
    s.input = DeviceMemory(device_, sizeof(float) * 3 * width * height);
    const std::vector<float> zeros(static_cast<size_t>(3) * width * height);
    if (fill_frame_memory(device_, s.input.data(), zeros.data(), s.input.size()) != SE_OK) throw std::bad_alloc();
    engine_->add(&s);
    if (s.output.size() < 64) throw std::runtime_error("not a depth model that a session takes: one float32 map as output is wanted.");
  }

  // Larger is farther: its inverse, no nearer than a thousandth of the mean.
  static void invert(DepthShape& s) {
    double sum = 0;
    for (const float v : s.output) sum += std::abs(static_cast<double>(v));
    const float least = static_cast<float>(std::max(1e-6, 1e-3 * sum / static_cast<double>(s.output.size())));
    for (float& v : s.output) v = 1.0f / std::max(v, least);
  }

  void enlarge(const DepthShape& s, float* to) const {
    const int32_t width = shapes_[0].map_width, height = shapes_[0].map_height;
    for (int32_t y = 0; y < height; ++y) {
      const float py = std::clamp((y + 0.5f) * s.map_height / height - 0.5f, 0.0f, s.map_height - 1.0f);
      const int32_t iy = static_cast<int32_t>(py), jy = std::min(iy + 1, s.map_height - 1);
      for (int32_t x = 0; x < width; ++x) {
        const float px = std::clamp((x + 0.5f) * s.map_width / width - 0.5f, 0.0f, s.map_width - 1.0f);
        const int32_t ix = static_cast<int32_t>(px), jx = std::min(ix + 1, s.map_width - 1);
        const float fy = py - static_cast<float>(iy), fx = px - static_cast<float>(ix);
        const float* map = s.output.data();
        const auto at = [&](int32_t r, int32_t c) { return map[int64_t{r} * s.map_width + c]; };
        const float top = at(iy, ix) + fx * (at(iy, jx) - at(iy, ix)), low = at(jy, ix) + fx * (at(jy, jx) - at(jy, ix));
        to[int64_t{y} * width + x] = top + fy * (low - top);
      }
    }
  }

  const int32_t device_;
  std::vector<DepthShape> shapes_;
  std::unique_ptr<DepthEngine> engine_;  // goes first: it may have the shapes' memory in its hands
  std::array<float, 3> gain_{}, bias_{};
  bool farther_ = false;
};

}  // namespace

AxisTable bilinear_axis(int32_t inputs, int32_t outputs) { return axis_of(inputs, outputs, false); }
AxisTable area_axis(int32_t inputs, int32_t outputs) { return axis_of(inputs, outputs, true); }

std::unique_ptr<DepthNetwork> DepthNetwork::open(const DepthSettings& settings) {
  return std::make_unique<EngineNetwork>(settings);
}

}  // namespace se
