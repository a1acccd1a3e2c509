// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime by its C interface, without its headers: OrtApi is a table of functions whose places are fixed for ever
// (onnxruntime_c_api.h: "DO NOT MODIFY ABOVE"); Place names those that are used.
#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "core/system.h"
#include "session/depth_engine.h"

namespace se {
namespace {

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
#if defined(_WIN32)
constexpr const char* kNames[] = {"onnxruntime.dll", "libonnxruntime.dll"};
#else
constexpr const char* kNames[] = {"libonnxruntime.so", "libonnxruntime.so.1"};
#endif
constexpr int kLogErrors = 3, kDeviceAllocator = 0, kDefaultMemory = 0, kFloat = 1;

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*version)();
};

class Runtime {
 public:
  // The library stays loaded: its threads and statics do not like to go.
  explicit Runtime(const std::string& path) {
    const char* name = path.empty() ? kNames[0] : path.c_str();
    void* library = open_library(name);
    if (library == nullptr && path.empty()) library = open_library(kNames[1]);
    if (library == nullptr) throw std::runtime_error("ONNX Runtime's library cannot be loaded: " + library_error());
    const auto get = reinterpret_cast<const ApiBase* (*)()>(library_symbol(library, "OrtGetApiBase"));
    if (get == nullptr) throw std::runtime_error(std::string(name) + ": not ONNX Runtime's library.");
    api_ = get()->get_api(kApiVersion);
    if (api_ == nullptr)
      throw std::runtime_error(std::string(name) + ": ONNX Runtime " + get()->version() + " is too old; 1.11 or later is wanted.");
    // Only builds with CUDA have it. By its own name, as it has no place that every version keeps.
    append_cuda_ = reinterpret_cast<AppendCuda>(library_symbol(library, "OrtSessionOptionsAppendExecutionProvider_CUDA"));
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

class OrtEngine final : public DepthEngine {
 public:
  explicit OrtEngine(const DepthSettings& settings) : ort_(settings.library), device_(settings.device) {
    try {
      load(settings);
    } catch (...) {
      release();
      throw;
    }
  }
  ~OrtEngine() override { release(); }

  DepthInput input() override {
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
    if (shape.size() != 4 || (shape[1] != 3 && shape[1] > 0))
      throw std::runtime_error("not a depth model that a session takes: a float input [1, 3, height, width] is wanted.");
    const auto side = [](int64_t n) { return static_cast<int32_t>(std::clamp<int64_t>(n, 0, INT32_MAX)); };
    return {side(shape[2]), side(shape[3])};
  }

  std::string metadata(const char* key) override {
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

  void add(DepthShape* shape) override {
    Tensors& t = tensors_.emplace_back();
    const int64_t in_shape[4] = {1, 3, shape->height, shape->width};
    ort_.check(ort_.call(kCreateTensorWithData, static_cast<const void*>(device_ != SE_CPU ? input_memory_ : memory_), shape->input.as<void>(),
                         shape->input.size(), static_cast<const int64_t*>(in_shape), size_t{4}, kFloat, &t.input));
    // The first run, which also warms it up, tells the output's shape.
    const char *in = input_name_.c_str(), *out = output_name_.c_str();
    const void* input = t.input;
    void *made = nullptr, *info = nullptr;
    ort_.check(ort_.call(kRun, session_, static_cast<const void*>(run_options_), &in, &input, size_t{1}, &out, size_t{1}, &made));
    int element = 0;
    size_t count = 0;
    std::vector<int64_t> dims;
    void* status = ort_.call(kGetTensorTypeAndShape, static_cast<const void*>(made), &info);
    if (status == nullptr) status = ort_.call(kGetTensorElementType, info, &element);
    if (status == nullptr) status = ort_.call(kGetDimensionsCount, info, &count);
    dims.resize(count);
    if (status == nullptr) status = ort_.call(kGetDimensions, info, dims.data(), count);
    ort_.release(kReleaseShape, info);
    ort_.release(kReleaseValue, made);
    ort_.check(status);
    int64_t elements = 1;
    for (const int64_t n : dims) elements *= n;
    if (element != kFloat || count < 2 || elements < 64 || elements != dims[count - 1] * dims[count - 2])
      throw std::runtime_error("not a depth model that a session takes: one float32 map as output is wanted.");
    shape->map_height = static_cast<int32_t>(dims[count - 2]);
    shape->map_width = static_cast<int32_t>(dims[count - 1]);
    shape->output.assign(static_cast<size_t>(elements), 0.0f);
    ort_.check(ort_.call(kCreateTensorWithData, static_cast<const void*>(memory_), static_cast<void*>(shape->output.data()),
                         shape->output.size() * sizeof(float), static_cast<const int64_t*>(dims.data()), count, kFloat, &t.output));
  }

  std::string run(DepthShape*, size_t which) override {
    Tensors& t = tensors_[which];
    const char *in = input_name_.c_str(), *out = output_name_.c_str();
    const void* input = t.input;
    return ort_.text(ort_.call(kRun, session_, static_cast<const void*>(run_options_), &in, &input, size_t{1}, &out, size_t{1}, &t.output));
  }

  void stop() override { ort_.text(ort_.call(kRunOptionsSetTerminate, run_options_)); }
  int64_t bytes() override { return 0; }  // it does not tell

 private:
  struct Tensors {
    void *input = nullptr, *output = nullptr;
  };

  void load(const DepthSettings& settings) {
    const std::filesystem::path path = path_of(settings.model);  // of wide characters on Windows, as it wants
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
    if (status == nullptr) status = ort_.call(kCreateSession, ort_.env(), path.c_str(),
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

  void release() {
    for (Tensors& t : tensors_) {
      ort_.release(kReleaseValue, t.input);
      ort_.release(kReleaseValue, t.output);
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
  std::vector<Tensors> tensors_;
};

}  // namespace

std::unique_ptr<DepthEngine> open_in_onnxruntime(const DepthSettings& settings) { return std::make_unique<OrtEngine>(settings); }

}  // namespace se
