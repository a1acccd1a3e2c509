// SPDX-License-Identifier: Apache-2.0
// A depth network: by our own kernels (net/network.h) where they have its layers, else in ONNX Runtime, whose library is loaded then.
#pragma once
#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "secondeye/session.h"

namespace se {

// How the network's input is made of a picture, as tables for se_resample_tensor.
struct AxisTable {
  std::vector<int32_t> first, count, weights;
  se_resample_axis view{};
};

// The weights of a bilinear, antialiased axis (runtime/ops/resample.py's axis_weights, number for number).
AxisTable bilinear_axis(int32_t inputs, int32_t outputs);
// The exact share of each input pixel; bilinear where it enlarges.
AxisTable area_axis(int32_t inputs, int32_t outputs);

struct DepthSettings {
  std::string model, library;
  int32_t width = 0, height = 0;  // 0: what the model says
  std::array<float, 3> mean{}, std{};
  int32_t farther = -1;
  int32_t frame_width = 0, frame_height = 0;
  int32_t threads = 0;
  bool small = false;  // also at half the size, where the network takes it
  int32_t device = 0, gpu = 0;  // se_device, and which
};

// There is no way to run the network on the device that was asked for.
struct NoDevice : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class DepthNetwork {
 public:
  // Throws std::runtime_error with a sentence, NoDevice among them.
  static std::unique_ptr<DepthNetwork> open(const DepthSettings& settings);
  virtual ~DepthNetwork() = default;

  virtual int32_t width() const = 0;  // of the map
  virtual int32_t height() const = 0;
  virtual bool has_small() const = 0;
  virtual int64_t bytes() const = 0;

  // uint8 [H, W, 3|4] of the frame's size, on the network's device -> the network's input, which run then takes (on a GPU when
  // exec's stream is through).
  virtual int32_t prepare(const se_exec& exec, const se_array& frame, bool small) = 0;
  // nearness: float [height, width], larger is nearer, finite. Gives nothing on success, else a sentence.
  virtual std::string run(bool small, float* nearness) = 0;
  // Makes a run that is under way end soon, and later ones fail. From any thread.
  virtual void stop() = 0;
};

}  // namespace se
