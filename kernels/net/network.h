// SPDX-License-Identifier: Apache-2.0
// Small convolutional networks on the CPU by kernels of our own (ops/net.op.h): convolutions of one batch and one group, or of
// as many groups as channels, with ReLU, ReLU6, sums, concatenation and slices of channels, bilinear doubling and one global mean: the
// built-in depth network, students of SGT and their like. Anything else is Unfit, for a runtime that knows more.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/onnx.h"
#include "ops/net.op.h"

namespace se {

const NetTable* net_table_base();
const NetTable* net_table_avx2();
const NetTable* net_table_avx512();
const NetTable* net_table_neon();
// isa: an se_isa; null where this machine does not run it. SE_ISA_AUTO gives the best.
const NetTable* net_table(int32_t isa);

class Network {
 public:
  // Throws Unfit.
  Network(const void* onnx, size_t size, int32_t isa);
  ~Network();

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  int32_t fixed_height() const { return fixed_height_; }  // 0: of any
  int32_t fixed_width() const { return fixed_width_; }

  int32_t channels() const { return tensors_[static_cast<size_t>(output_)].channels; }  // of the map

  // The map's size for a picture's. Throws Unfit where the layers do not meet.
  void shape(int32_t height, int32_t width, int32_t* out_height, int32_t* out_width);

  // in: float [3, height, width], packed; out: float [channels] of `shape`, packed. stop: if not null, a run that finds it set ends soon.
  // Gives an se_status; throws Unfit, and std::bad_alloc at the first run of a size. From any thread.
  int32_t run(int32_t threads, const float* in, int32_t height, int32_t width, float* out, int32_t out_height, int32_t out_width,
              const std::atomic<bool>* stop);

  // Bytes of weights and of the buffers that are kept.
  int64_t bytes();

 private:
  enum class Kind { kStart, kPoint, kDepth, kDense, kEnlarge, kCopy, kMean, kLinear, kAddVector };

  struct Tensor {
    int32_t channels = 0;
    int32_t whole = -1, first_channel = 0;  // part of a concatenation
    bool vector = false;                    // one number for each channel
  };

  struct Step {
    Kind kind{};
    int32_t in = -1, out = -1, add = -1;
    int32_t first = 0;  // of the channels that are copied
    int32_t kernel = 1, stride = 1, top = 0, left = 0, bottom = 0, right = 0;
    std::vector<float> weights, bias;
    float low = 0, high = 0;
    // A pointwise layer that was drawn into this depthwise one.
    enum class Drawn { kNone, kBefore, kBehind } drawn = Drawn::kNone;
    std::vector<float> point, point_bias;
    float point_low = 0, point_high = 0;
  };

  struct Place {
    int32_t height = 0, width = 0;
    int64_t plane = 0, offset = 0;  // in floats
  };

  // All that a run of one size needs.
  struct Plan {
    int32_t height = 0, width = 0;
    std::vector<Place> places;
    std::unique_ptr<float[]> memory;
    int64_t floats = 0;
    float* arena = nullptr;
  };

  class Compiler;

  std::unique_ptr<Plan> plan(int32_t height, int32_t width);
  void keep(std::unique_ptr<Plan> plan);
  void lay_out(Plan* plan) const;
  float* at(const Plan& plan, int32_t tensor) const;
  int32_t run_step(const Step& step, const Plan& plan, int32_t threads, const float* in) const;

  const NetTable* table_;
  std::map<std::string, std::string> metadata_;
  int32_t fixed_height_ = 0, fixed_width_ = 0, output_ = 0;
  std::vector<Tensor> tensors_;
  std::vector<Step> steps_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Plan>> idle_;
};

}  // namespace se
