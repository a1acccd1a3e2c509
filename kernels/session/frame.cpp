// SPDX-License-Identifier: Apache-2.0
// A frame as a sequence of ops, on any device. See secondeye/frame.h; the order is session/picture.cpp's.
#include "secondeye/frame.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "core/check.h"
#include "cuda/graph.h"
#include "session/depth.h"
#include "session/picture.h"

using namespace se;

namespace {

struct Inputs {
  se_session_params params;
  se_array picture, chroma, nearness, out;
};

// Weights of an axis where the frame's memory is.
struct DeviceAxis {
  se_resample_axis view{};
};

}  // namespace

struct se_frame {
  explicit se_frame(const se_frame_config& given) : config(given) {}
  ~se_frame() {
    for (void* one : owned) free_frame_memory(config.device, one);
  }
  se_frame(const se_frame&) = delete;
  se_frame& operator=(const se_frame&) = delete;

  void* own(int64_t size) {
    void* memory = frame_memory(config.device, static_cast<size_t>(size));
    if (memory == nullptr) throw std::bad_alloc();
    owned.push_back(memory);
    bytes += size;
    return memory;
  }
  void axis(DeviceAxis& to, int32_t inputs, int32_t outputs) {
    const AxisTable host = area_axis(inputs, outputs);
    to.view = host.view;
    const auto put = [&](const int32_t** place, const std::vector<int32_t>& values) {
      const size_t size = values.size() * sizeof(int32_t);
      void* memory = own(static_cast<int64_t>(size));
      if (fill_frame_memory(config.device, memory, values.data(), size) != SE_OK) throw std::bad_alloc();
      *place = static_cast<const int32_t*>(memory);
    };
    put(&to.view.first, host.first);
    put(&to.view.count, host.count);
    put(&to.view.weights, host.weights);
  }
  void prepare();
  int32_t record(void* stream);
  int32_t view(const se_exec& exec, const se_array& source, bool from_left, bool both, const se_array& to);
  int32_t lay_out(const se_exec& exec, se_array left, se_array right);

  const se_frame_config config;
  std::vector<void*> owned;
  int64_t bytes = 0;
  se_array rgb{}, cells{}, raw{}, plane{}, moves{}, warped{}, left{}, right{}, holes{}, map{};
  DeviceAxis half_width, half_height, whole_width, whole_height;
  Inputs now{};
  bool recorded = false;
  FrameGraph graph;
};

void se_frame::prepare() {
  const int32_t w = config.width, h = config.height, c = config.channels;
  const auto picture = [&] { return packed(own(int64_t{w} * h * c), h, w, c, SE_UINT8, 1); };
  const auto floats = [&](int32_t height, int32_t width) { return packed(own(int64_t{4} * width * height), height, width, 1, SE_FLOAT32, 4); };
  if (config.nv12 != 0) rgb = picture();
  cells = floats(config.map_height, config.map_width);
  if (config.widen > 0) raw = floats(h, w);
  plane = floats(h, w);
  moves = floats(h, w);
  warped = picture();
  left = picture();
  right = picture();
  holes = packed(own(int64_t{w} * h), h, w, 1, SE_UINT8, 1);
  map = packed(own(int64_t{4} * w * h), h, w, 1, SE_INT32, 4);
  axis(half_width, w, std::max(1, w / 2));
  axis(half_height, h, std::max(1, h / 2));
  axis(whole_width, w, w);
  axis(whole_height, h, h);
}

int32_t se_frame::view(const se_exec& exec, const se_array& source, bool from_left, bool both, const se_array& to) {
  const se_session_params& p = now.params;
  const float share = both ? 0.5f : 1.0f, range = p.strength / 100.0f * static_cast<float>(config.width);
  SE_TRY(se_level(&exec, share * p.strength / kPlaneRange, -share * p.convergence * range, &plane, &moves));
  const se_warp_params law{SE_EYE_RIGHT, SE_WARP_SURFACE, 512, 0};
  const se_warp_view one{from_left ? -256 : 256, p.fill != 0 ? warped : to, holes, map};
  SE_TRY(se_warp_views(&exec, &law, &source, &moves, 1, &one));
  return p.fill != 0 ? se_fill(&exec, from_left ? SE_EYE_LEFT : SE_EYE_RIGHT, &warped, &holes, &map, &to) : SE_OK;
}

int32_t se_frame::lay_out(const se_exec& exec, se_array first, se_array second) {
  const int32_t layout = now.params.layout;
  if (layout == SE_LAYOUT_HALF_SBS || layout == SE_LAYOUT_HALF_TB) {
    const bool wide = layout == SE_LAYOUT_HALF_SBS;
    se_array part = now.out;
    (wide ? part.width : part.height) /= 2;
    const se_resample_axis &x = wide ? half_width.view : whole_width.view, &y = wide ? whole_height.view : half_height.view;
    SE_TRY(se_resample(&exec, &first, &x, &y, &part));
    part.data = static_cast<uint8_t*>(part.data) + (wide ? part.width * part.stride_x : part.height * part.stride_y);
    return se_resample(&exec, &second, &x, &y, &part);
  }
  if (layout == SE_LAYOUT_ANAGLYPH) {
    first.channels = second.channels = 3;
    return se_anaglyph(&exec, now.params.anaglyph, &first, &second, &now.out);
  }
  if (layout == SE_LAYOUT_RIGHT) return se_resample(&exec, &second, &whole_width.view, &whole_height.view, &now.out);
  return se_pack(&exec, layout, &first, &second, &now.out);
}

int32_t se_frame::record(void* stream) {
  se_exec exec{};
  exec.device = config.device;
  exec.isa = config.isa;
  exec.threads = config.threads;
  exec.stream = stream;
  se_array source = now.picture;
  if (config.nv12 != 0) {
    SE_TRY(se_nv12(&exec, config.standard, config.full_range, &now.picture, &now.chroma, &rgb));
    source = rgb;
  }
  const float range = kPlaneRange / 100.0f * static_cast<float>(config.width);
  SE_TRY(se_level(&exec, range, 0, &now.nearness, &cells));
  const int32_t step_q8 = std::max(256, static_cast<int32_t>(16.0f * range));
  SE_TRY(se_upsample(&exec, step_q8, &cells, &source, nullptr, config.widen > 0 ? &raw : &plane));
  if (config.widen > 0) SE_TRY(se_widen(&exec, config.widen, 256, &raw, &plane));
  const bool both = now.params.both != 0, deep = now.params.strength > 0;
  se_array first = source, second = source;
  if (deep) {
    SE_TRY(view(exec, source, false, both, right));
    second = right;
    if (both) {
      SE_TRY(view(exec, source, true, both, left));
      first = left;
    }
  }
  if (now.params.swap != 0) std::swap(first, second);
  return lay_out(exec, first, second);
}

namespace {

void say(char* message, size_t size, const char* text) {
  if (message == nullptr || size == 0) return;
  std::strncpy(message, text, size - 1);
  message[size - 1] = 0;
}

int32_t check_config(const se_frame_config& c) {
  if (c.width < 16 || c.height < 16 || c.width > 8192 || c.height > 8192) return SE_ERROR_BAD_SHAPE;
  if (c.channels != 3 && c.channels != 4) return SE_ERROR_BAD_SHAPE;
  if (c.map_width < 1 || c.map_height < 1 || c.map_width > 4096 || c.map_height > 4096) return SE_ERROR_BAD_SHAPE;
  if (c.widen < 0 || c.widen > 16 || c.standard < SE_BT601 || c.standard > SE_BT2020) return SE_ERROR_BAD_PARAMETER;
  se_exec exec{};
  exec.device = c.device;
  exec.isa = c.isa;
  exec.threads = c.threads;
  return check_exec(&exec);
}

bool between(float v, float low, float high) { return v >= low && v <= high; }  // false for NaN

int32_t check_params(const se_session_params& p) {
  if (!between(p.strength, 0, 20) || !between(p.convergence, 0, 1) || p.roll != 0) return SE_ERROR_BAD_PARAMETER;
  if (p.layout < SE_LAYOUT_SBS || p.layout > SE_LAYOUT_RIGHT) return SE_ERROR_BAD_PARAMETER;
  for (const int32_t m : p.anaglyph)
    if (m < -65536 || m > 65536) return SE_ERROR_BAD_PARAMETER;
  return SE_OK;
}

}  // namespace

extern "C" {

void se_frame_defaults(se_frame_config* config, int32_t width, int32_t height, int32_t channels) {
  if (config == nullptr) return;
  se_session_config session;
  se_session_defaults(&session, width, height, channels);
  *config = se_frame_config{};
  config->struct_size = sizeof(se_frame_config);
  config->width = width;
  config->height = height;
  config->channels = channels;
  config->standard = SE_BT709;
  config->widen = session.widen;
}

int32_t se_frame_create(const se_frame_config* config, se_frame** frame, char* message, size_t message_size) {
  if (config == nullptr || frame == nullptr) return SE_ERROR_NULL_POINTER;
  *frame = nullptr;
  if (config->struct_size != sizeof(se_frame_config)) {
    say(message, message_size, "the configuration is of another version of secondeye/frame.h; begin with se_frame_defaults.");
    return SE_ERROR_BAD_PARAMETER;
  }
  const int32_t status = check_config(*config);
  if (status != SE_OK) {
    say(message, message_size, se_status_string(status));
    return status;
  }
  se_frame* made = nullptr;
  try {
    made = new se_frame(*config);
    made->prepare();
  } catch (const std::bad_alloc&) {
    delete made;
    say(message, message_size, "memory for the frame's buffers could not be had");
    return SE_ERROR_OUT_OF_MEMORY;
  }
  *frame = made;
  return SE_OK;
}

void se_frame_destroy(se_frame* frame) { delete frame; }

int64_t se_frame_bytes(const se_frame* frame) { return frame == nullptr ? 0 : frame->bytes; }

int32_t se_frame_shape(const se_frame* frame, const se_session_params* params, int32_t* height, int32_t* width,
                       int32_t* channels) {
  if (frame == nullptr || params == nullptr || height == nullptr || width == nullptr || channels == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_params(*params));
  const se_frame_config& c = frame->config;
  *height = c.height;
  *width = c.width;
  *channels = params->layout == SE_LAYOUT_ANAGLYPH ? 3 : c.channels;
  if (params->layout == SE_LAYOUT_SBS) *width *= 2;
  if (params->layout == SE_LAYOUT_TB) *height *= 2;
  if (params->layout == SE_LAYOUT_HALF_SBS) *width = 2 * std::max(1, c.width / 2);
  if (params->layout == SE_LAYOUT_HALF_TB) *height = 2 * std::max(1, c.height / 2);
  return SE_OK;
}

int32_t se_frame_run(se_frame* frame, const se_session_params* params, const se_array* picture, const se_array* chroma,
                     const se_array* nearness, const se_array* out, void* stream) {
  int32_t height, width, channels;
  SE_TRY(se_frame_shape(frame, params, &height, &width, &channels));
  const se_frame_config& c = frame->config;
  const int32_t wanted = c.nv12 != 0 ? 1 : c.channels;
  SE_TRY(check_array(picture, 1u << SE_UINT8, wanted, wanted));
  if (picture->height != c.height || picture->width != c.width) return SE_ERROR_BAD_SHAPE;
  if (c.nv12 != 0) {
    SE_TRY(check_array(chroma, 1u << SE_UINT8, 2, 2));
    if (chroma->height != (c.height + 1) / 2 || chroma->width != (c.width + 1) / 2) return SE_ERROR_BAD_SHAPE;
  }
  SE_TRY(check_array(nearness, 1u << SE_FLOAT32, 1, 1));
  if (nearness->height != c.map_height || nearness->width != c.map_width) return SE_ERROR_BAD_SHAPE;
  SE_TRY(check_array(out, 1u << SE_UINT8, channels, channels));
  if (out->height != height || out->width != width) return SE_ERROR_BAD_SHAPE;
  for (const se_array* in : {picture, chroma, nearness})
    if (in != nullptr) SE_TRY(check_disjoint(*out, *in));
  Inputs given;
  std::memset(&given, 0, sizeof given);  // compared byte by byte
  given.params = *params;
  given.picture = *picture;
  if (c.nv12 != 0) given.chroma = *chroma;
  given.nearness = *nearness;
  given.out = *out;
  const bool same = frame->recorded && std::memcmp(&given, &frame->now, sizeof given) == 0;
  frame->now = given;
  if (c.device == SE_CPU) return frame->record(nullptr);
  const int32_t status = frame->graph.run(
      same, stream, [](void* user, void* recording) { return static_cast<se_frame*>(user)->record(recording); }, frame);
  frame->recorded = status == SE_OK;
  return status;
}

}  // extern "C"
