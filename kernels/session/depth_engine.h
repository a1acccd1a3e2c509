// SPDX-License-Identifier: Apache-2.0
// What runs a depth network: our own kernels where they have its layers, else ONNX Runtime.
#pragma once
#include "session/canvas.h"
#include "session/depth.h"

namespace se {

struct DepthInput {
  int32_t height = 0, width = 0;  // 0: of any
};

// One size of input, with memory of its own.
struct DepthShape {
  int32_t width = 0, height = 0, map_width = 0, map_height = 0;
  DeviceAxis x, y;
  DeviceMemory input;  // float [3, height, width]
  std::vector<float> output;
};

class DepthEngine {
 public:
  virtual ~DepthEngine() = default;
  virtual DepthInput input() = 0;
  virtual std::string metadata(const char* key) = 0;  // empty where there is none
  // Takes a size of input, whose memory stays where it is, runs once and sets the map's size and memory. Throws std::runtime_error.
  virtual void add(DepthShape* shape) = 0;
  // shape: the which-th that was added; its output is written. Gives nothing on success, else a sentence.
  virtual std::string run(DepthShape* shape, size_t which) = 0;
  virtual void stop() = 0;
  virtual int64_t bytes() = 0;
};

// Throws std::runtime_error, NoDevice among them.
std::unique_ptr<DepthEngine> open_in_onnxruntime(const DepthSettings& settings);
// Null where our kernels lack the network's layers, or the network is for a GPU.
std::unique_ptr<DepthEngine> open_in_kernels(const DepthSettings& settings);

}  // namespace se
