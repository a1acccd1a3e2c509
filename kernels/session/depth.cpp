// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime by its C interface, without its headers: OrtApi is a table of functions whose places are fixed for ever
// (onnxruntime_c_api.h: "DO NOT MODIFY ABOVE"); kPlaces names those that are used.
#include "session/depth.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "session/canvas.h"

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

// Places in OrtApi.
enum Place : int {
  kGetErrorMessage = 2, kCreateEnv = 3, kCreateSession = 7, kRun = 9, kCreateSessionOptions = 10,
  kSetIntraOpNumThreads = 24, kSessionGetInputCount = 30, kSessionGetOutputCount = 31, kSessionGetInputTypeInfo = 33,
  kSessionGetInputName = 36, kSessionGetOutputName = 37, kCreateRunOptions = 39, kRunOptionsSetTerminate = 46,
  kCreateTensorWithData = 49, kGetTensorMutableData = 51, kCastTypeInfoToTensorInfo = 55, kGetTensorElementType = 60,
  kGetDimensionsCount = 61, kGetDimensions = 62, kGetTensorTypeAndShape = 65,
  kCreateMemoryInfo = 68, kCreateCpuMemoryInfo = 69,
  kAllocatorFree = 76, kGetAllocator = 78, kReleaseEnv = 92, kReleaseStatus = 93, kReleaseMemoryInfo = 94, kReleaseSession = 95,
  kReleaseValue = 96, kReleaseRunOptions = 97, kReleaseTypeInfo = 98, kReleaseShape = 99, kReleaseSessionOptions = 100,
  kGetModelMetadata = 111, kLookupMetadata = 116, kReleaseMetadata = 118, kAddSessionConfigEntry = 130
};
constexpr uint32_t kApiVersion = 11;
constexpr int kLogErrors = 3, kDeviceAllocator = 0, kDefaultMemory = 0, kFloat = 1;

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*version)();
};

class Runtime {
 public:
  // The library stays loaded: its threads and statics do not like to go.
  explicit Runtime(const std::string& path) {
    const char* name = path.empty() ? "libonnxruntime.so" : path.c_str();
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr && path.empty()) library = dlopen("libonnxruntime.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error("ONNX Runtime's library cannot be loaded: " + std::string(dlerror()));
    const auto get = reinterpret_cast<const ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
    if (get == nullptr) throw std::runtime_error(std::string(name) + ": not ONNX Runtime's library.");
    api_ = get()->get_api(kApiVersion);
    if (api_ == nullptr)
      throw std::runtime_error(std::string(name) + ": ONNX Runtime " + get()->version() + " is too old; 1.11 or later is wanted.");
    // Only builds with CUDA have it. By its own name, as it has no place that every version keeps.
    append_cuda_ = reinterpret_cast<AppendCuda>(dlsym(library, "OrtSessionOptionsAppendExecutionProvider_CUDA"));
    name_ = std::string(name) + ", ONNX Runtime " + get()->version();
    check(call(kCreateEnv, kLogErrors, "secondeye", &env_));
  }
  ~Runtime() { release(kReleaseEnv, env_); }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Everything but the releases and GetErrorMessage gives a status: null is good.
  template <typename... Args>
  void* call(Place place, Args... args) const {
    return reinterpret_cast<void* (*)(Args...)>(const_cast<void*>(api_[place]))(args...);
  }

  std::string text(void* status) const {
    if (status == nullptr) return {};
    std::string message = static_cast<const char*>(call(kGetErrorMessage, static_cast<const void*>(status)));
    release(kReleaseStatus, status);
    const size_t end = message.find('\n');
    return end == std::string::npos ? message : message.substr(0, end);
  }

  void check(void* status) const {
    if (status != nullptr) throw std::runtime_error(text(status));
  }

  void release(Place place, void* object) const {
    if (object != nullptr) reinterpret_cast<void (*)(void*)>(const_cast<void*>(api_[place]))(object);
  }

  void* env() const { return env_; }

  // Puts the network on a GPU, or throws NoDevice.
  void use_cuda(void* options, int gpu) const {
    if (append_cuda_ == nullptr) throw NoDevice(name_ + ": it has no CUDA provider; install secondeye[cuda] in place of plain onnxruntime.");
    const std::string error = text(append_cuda_(options, gpu));
    if (!error.empty()) throw NoDevice(name_ + ": its CUDA provider cannot start (" + error + ").");
  }

 private:
  using AppendCuda = void* (*)(void* options, int gpu);
  const void* const* api_ = nullptr;
  void* env_ = nullptr;
  AppendCuda append_cuda_ = nullptr;
  std::string name_;
};

// One size of input, with memory and tensors of its own.
struct Shape {
  int32_t width = 0, height = 0, map_width = 0, map_height = 0;
  DeviceAxis x, y;
  DeviceMemory input;
  std::vector<float> output;
  std::vector<int64_t> output_shape;
  void *input_value = nullptr, *output_value = nullptr;
};

class OrtNetwork final : public DepthNetwork {
 public:
  explicit OrtNetwork(const DepthSettings& settings) : ort_(settings.library), device_(settings.device) {
    try {
      load(settings);
    } catch (...) {
      release();
      throw;
    }
  }
  ~OrtNetwork() override { release(); }

  int32_t width() const override { return shapes_[0].map_width; }
  int32_t height() const override { return shapes_[0].map_height; }
  bool has_small() const override { return shapes_.size() > 1; }

  int64_t bytes() const override {
    size_t floats = 0;
    for (const Shape& s : shapes_) floats += s.input.size() / sizeof(float) + s.output.size();
    return static_cast<int64_t>(floats * sizeof(float));
  }

  int32_t prepare(const se_exec& exec, const se_array& frame, bool small) override {
    Shape& s = shapes_[small ? 1 : 0];
    const int64_t plane = int64_t{4} * s.width * s.height;
    const se_array tensor{s.input.as<void>(), s.height, s.width, 3, SE_FLOAT32, int64_t{4} * s.width, 4, plane};
    return se_resample_tensor(&exec, &frame, &s.x.view, &s.y.view, gain_.data(), bias_.data(), &tensor);
  }

  std::string run(bool small, float* nearness) override {
    Shape& s = shapes_[small ? 1 : 0];
    const char *in = input_name_.c_str(), *out = output_name_.c_str();
    const void* input = s.input_value;
    void* status = ort_.call(kRun, session_, static_cast<const void*>(run_options_), &in, &input, size_t{1}, &out,
                             size_t{1}, &s.output_value);
    if (status != nullptr) return ort_.text(status);
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

  void stop() override { ort_.text(ort_.call(kRunOptionsSetTerminate, run_options_)); }

 private:
  void load(const DepthSettings& settings) {
    void* options = nullptr;
    ort_.check(ort_.call(kCreateSessionOptions, &options));
    // Spinning threads would take the cores that the warp needs.
    void* status = ort_.call(kAddSessionConfigEntry, options, "session.intra_op.allow_spinning", "0");
    if (status == nullptr) status = ort_.call(kSetIntraOpNumThreads, options, static_cast<int>(settings.threads));
    if (status == nullptr && device_ != SE_CPU) {
      try {
        ort_.use_cuda(options, settings.gpu);
      } catch (...) {
        ort_.release(kReleaseSessionOptions, options);
        throw;
      }
    }
    if (status == nullptr) status = ort_.call(kCreateSession, ort_.env(), settings.model.c_str(),
                                              static_cast<const void*>(options), &session_);
    ort_.release(kReleaseSessionOptions, options);
    ort_.check(status);
    ort_.check(ort_.call(kCreateRunOptions, &run_options_));
    ort_.check(ort_.call(kCreateCpuMemoryInfo, kDeviceAllocator, kDefaultMemory, &memory_));
    if (device_ != SE_CPU)
      ort_.check(ort_.call(kCreateMemoryInfo, "Cuda", kDeviceAllocator, static_cast<int>(settings.gpu), kDefaultMemory, &input_memory_));
    ort_.check(ort_.call(kGetAllocator, &allocator_));
    size_t inputs = 0, outputs = 0;
    ort_.check(ort_.call(kSessionGetInputCount, session_, &inputs));
    ort_.check(ort_.call(kSessionGetOutputCount, session_, &outputs));
    if (inputs != 1 || outputs < 1) throw std::runtime_error("not a depth model: one picture in and one map out are wanted.");
    input_name_ = owned([&](char** to) { return ort_.call(kSessionGetInputName, session_, size_t{0}, allocator_, to); });
    output_name_ = owned([&](char** to) { return ort_.call(kSessionGetOutputName, session_, size_t{0}, allocator_, to); });
    const std::vector<int64_t> shape = input_shape();
    if (shape.size() != 4 || (shape[1] != 3 && shape[1] > 0))
      throw std::runtime_error("not a depth model that a session takes: a float input [1, 3, height, width] is wanted.");
    settle(settings, shape);
  }

  std::vector<int64_t> input_shape() {
    void *info = nullptr, *tensor = nullptr;
    ort_.check(ort_.call(kSessionGetInputTypeInfo, session_, size_t{0}, &info));
    std::vector<int64_t> shape;
    void* status = ort_.call(kCastTypeInfoToTensorInfo, info, &tensor);
    int element = 0;
    size_t count = 0;
    if (status == nullptr && tensor != nullptr) {
      status = ort_.call(kGetTensorElementType, tensor, &element);
      if (status == nullptr) status = ort_.call(kGetDimensionsCount, tensor, &count);
      shape.resize(count);
      if (status == nullptr) status = ort_.call(kGetDimensions, tensor, shape.data(), count);
    }
    ort_.release(kReleaseTypeInfo, info);
    ort_.check(status);
    if (element != kFloat) throw std::runtime_error("not a depth model that a session takes: its input is not float32.");
    return shape;
  }

  template <typename Ask>
  std::string owned(Ask ask) {
    char* text = nullptr;
    ort_.check(ask(&text));
    if (text == nullptr) return {};
    const std::string copy = text;
    ort_.text(ort_.call(kAllocatorFree, allocator_, text));
    return copy;
  }

  std::string metadata(const char* key) {
    void* data = nullptr;
    ort_.check(ort_.call(kGetModelMetadata, session_, &data));
    std::string value;
    try {
      value = owned([&](char** to) { return ort_.call(kLookupMetadata, data, allocator_, key, to); });
    } catch (...) {
      ort_.release(kReleaseMetadata, data);
      throw;
    }
    ort_.release(kReleaseMetadata, data);
    return value;
  }

  // Size, normalisation and sense: what was asked for, else what the model's metadata say, else what is usual.
  void settle(const DepthSettings& settings, const std::vector<int64_t>& shape) {
    int32_t width = settings.width, height = settings.height;
    const int32_t multiple = std::clamp(std::atoi(metadata("input_multiple").c_str()), 1, 4096);
    if (shape[2] > 0 && shape[3] > 0) {
      height = static_cast<int32_t>(shape[2]);
      width = static_cast<int32_t>(shape[3]);
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
    if (settings.small && shape[2] <= 0 && shape[3] <= 0 && half_width >= 32 && half_height >= 32)
      add_shape(settings, half_width, half_height);
  }

  void add_shape(const DepthSettings& settings, int32_t width, int32_t height) {
    shapes_.emplace_back();
    Shape& s = shapes_.back();
    s.width = width;
    s.height = height;
    s.x = DeviceAxis(device_, bilinear_axis(settings.frame_width, width));
    s.y = DeviceAxis(device_, bilinear_axis(settings.frame_height, height));
    s.input = DeviceMemory(device_, sizeof(float) * 3 * width * height);
    const std::vector<float> zeros(static_cast<size_t>(3) * width * height);
    if (fill_frame_memory(device_, s.input.data(), zeros.data(), s.input.size()) != SE_OK) throw std::bad_alloc();
    const int64_t in_shape[4] = {1, 3, height, width};
    ort_.check(ort_.call(kCreateTensorWithData, static_cast<const void*>(device_ != SE_CPU ? input_memory_ : memory_), s.input.as<void>(),
                         s.input.size(), static_cast<const int64_t*>(in_shape), size_t{4}, kFloat,
                         &s.input_value));
    // The first run, which also warms it up, tells the output's shape.
    const char *in = input_name_.c_str(), *out = output_name_.c_str();
    const void* input = s.input_value;
    void *made = nullptr, *info = nullptr;
    ort_.check(ort_.call(kRun, session_, static_cast<const void*>(run_options_), &in, &input, size_t{1}, &out, size_t{1},
                         &made));
    int element = 0;
    size_t count = 0;
    void* status = ort_.call(kGetTensorTypeAndShape, static_cast<const void*>(made), &info);
    if (status == nullptr) status = ort_.call(kGetTensorElementType, info, &element);
    if (status == nullptr) status = ort_.call(kGetDimensionsCount, info, &count);
    s.output_shape.resize(count);
    if (status == nullptr) status = ort_.call(kGetDimensions, info, s.output_shape.data(), count);
    ort_.release(kReleaseShape, info);
    ort_.release(kReleaseValue, made);
    ort_.check(status);
    int64_t elements = 1;
    for (const int64_t n : s.output_shape) elements *= n;
    if (element != kFloat || count < 2 || elements < 64 ||
        elements != s.output_shape[count - 1] * s.output_shape[count - 2])
      throw std::runtime_error("not a depth model that a session takes: one float32 map as output is wanted.");
    s.map_height = static_cast<int32_t>(s.output_shape[count - 2]);
    s.map_width = static_cast<int32_t>(s.output_shape[count - 1]);
    s.output.assign(static_cast<size_t>(elements), 0.0f);
    ort_.check(ort_.call(kCreateTensorWithData, static_cast<const void*>(memory_), static_cast<void*>(s.output.data()),
                         s.output.size() * sizeof(float), static_cast<const int64_t*>(s.output_shape.data()), count,
                         kFloat, &s.output_value));
  }

  // Larger is farther: its inverse, no nearer than a thousandth of the mean.
  static void invert(Shape& s) {
    double sum = 0;
    for (const float v : s.output) sum += std::abs(static_cast<double>(v));
    const float least = static_cast<float>(std::max(1e-6, 1e-3 * sum / static_cast<double>(s.output.size())));
    for (float& v : s.output) v = 1.0f / std::max(v, least);
  }

  void enlarge(const Shape& s, float* to) const {
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

  void release() {
    for (Shape& s : shapes_) {
      ort_.release(kReleaseValue, s.input_value);
      ort_.release(kReleaseValue, s.output_value);
    }
    ort_.release(kReleaseRunOptions, run_options_);
    ort_.release(kReleaseMemoryInfo, memory_);
    ort_.release(kReleaseMemoryInfo, input_memory_);
    ort_.release(kReleaseSession, session_);
  }

  Runtime ort_;
  const int32_t device_;
  void *session_ = nullptr, *run_options_ = nullptr, *memory_ = nullptr, *input_memory_ = nullptr, *allocator_ = nullptr;
  std::string input_name_, output_name_;
  std::vector<Shape> shapes_;
  std::array<float, 3> gain_{}, bias_{};
  bool farther_ = false;
};

}  // namespace

AxisTable bilinear_axis(int32_t inputs, int32_t outputs) { return axis_of(inputs, outputs, false); }
AxisTable area_axis(int32_t inputs, int32_t outputs) { return axis_of(inputs, outputs, true); }

std::unique_ptr<DepthNetwork> DepthNetwork::open(const DepthSettings& settings) {
  return std::make_unique<OrtNetwork>(settings);
}

}  // namespace se
