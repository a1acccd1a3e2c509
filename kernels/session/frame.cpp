// SPDX-License-Identifier: Apache-2.0
// A frame as a sequence of ops, on any device. See secondeye/frame.h.
#include "secondeye/frame.h"

#include <cstring>
#include <new>

#include "core/check.h"
#include "cuda/graph.h"
#include "session/canvas.h"

using namespace se;

namespace {

struct Inputs {
  se_session_params params;
  se_array picture, chroma, nearness, out;
};

}  // namespace

struct se_frame {
  explicit se_frame(const se_frame_config& given)
      : config(given), canvas(given.device, given.width, given.height, given.channels, given.map_width, given.map_height, given.widen) {
    if (config.nv12 != 0) rgb = canvas.picture();
    plane = canvas.floats(config.height, config.width);
  }
  int32_t record(void* stream);

  const se_frame_config config;
  Canvas canvas;
  se_array rgb{}, plane{};
  Inputs now{};
  bool recorded = false;
  FrameGraph graph;
};

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
  const bool deep = now.params.strength > 0;
  if (deep) SE_TRY(canvas.plane(exec, now.nearness, source, false, plane));
  SE_TRY(canvas.views(exec, now.params, source, deep ? &plane : nullptr, {}));
  return canvas.pack(exec, now.params, source, nullptr, now.out);
}

namespace {

// why: a sentence, unless this is SE_OK.
int32_t check_config(const se_frame_config& c, const char** why) {
  const auto refused = [why](int32_t status, const char* sentence) {
    *why = sentence;
    return status;
  };
  if (c.width < 16 || c.height < 16 || c.width > 8192 || c.height > 8192)
    return refused(SE_ERROR_BAD_SHAPE, "width and height of pictures have to be 16 to 8192.");
  if (c.channels != 3 && c.channels != 4) return refused(SE_ERROR_BAD_SHAPE, "channels of pictures have to be 3 or 4.");
  if (c.map_width < 1 || c.map_height < 1 || c.map_width > 4096 || c.map_height > 4096)
    return refused(SE_ERROR_BAD_SHAPE, "map_width and map_height, of nearness, have to be 1 to 4096.");
  if (c.widen < 0 || c.widen > 16) return refused(SE_ERROR_BAD_PARAMETER, "widen has to be 0 to 16.");
  if (c.standard < SE_BT601 || c.standard > SE_BT2020) return refused(SE_ERROR_BAD_PARAMETER, "standard has to be an se_standard.");
  if (c.threads < 0 || c.threads > 256) return refused(SE_ERROR_BAD_PARAMETER, "threads has to be 0 to 256.");
  se_exec exec{};
  exec.device = c.device;
  exec.isa = c.isa;
  exec.threads = c.threads;
  return check_machine(exec, why);
}

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
  if (frame != nullptr) *frame = nullptr;
  if (config == nullptr || frame == nullptr) {
    say(message, message_size, se_status_string(SE_ERROR_NULL_POINTER));
    return SE_ERROR_NULL_POINTER;
  }
  if (config->struct_size != sizeof(se_frame_config)) {
    say(message, message_size, "the configuration is of another version of secondeye/frame.h; begin with se_frame_defaults.");
    return SE_ERROR_BAD_PARAMETER;
  }
  const char* why = "";
  const int32_t status = check_config(*config, &why);
  if (status != SE_OK) {
    say(message, message_size, why);
    return status;
  }
  se_frame* made = nullptr;
  try {
    made = new se_frame(*config);
  } catch (const std::bad_alloc&) {
    delete made;
    say(message, message_size, "memory for the frame's buffers could not be had");
    return SE_ERROR_OUT_OF_MEMORY;
  }
  *frame = made;
  return SE_OK;
}

void se_frame_destroy(se_frame* frame) { delete frame; }

int64_t se_frame_bytes(const se_frame* frame) { return frame == nullptr ? 0 : frame->canvas.bytes(); }

int32_t se_frame_shape(const se_frame* frame, const se_session_params* params, int32_t* height, int32_t* width,
                       int32_t* channels) {
  if (frame == nullptr || params == nullptr || height == nullptr || width == nullptr || channels == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_params(*params));
  frame->canvas.shape(params->layout, height, width, channels);
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
  const bool alike = same_launches(given.params, frame->now.params);
  frame->now = given;
  if (c.device == SE_CPU) return frame->record(nullptr);
  if (c.separate != 0) return frame->record(stream);
  const int32_t status = frame->graph.run(
      same, alike, stream, [](void* user, void* recording) { return static_cast<se_frame*>(user)->record(recording); }, frame);
  frame->recorded = status == SE_OK;
  return status;
}

}  // extern "C"
