// SPDX-License-Identifier: Apache-2.0
// Frames that lie on the host, through lanes that take turns. See secondeye/frame.h.
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "core/check.h"
#include "cuda/graph.h"
#include "secondeye/frame.h"
#include "session/canvas.h"

using namespace se;

namespace {

struct Destroy {
  void operator()(se_frame* frame) const { se_frame_destroy(frame); }
};

// An array in page-locked memory and its twin where the work is done.
struct Twin {
  void make(int32_t place, int32_t height, int32_t width, int32_t channels, int32_t dtype) {
    const int32_t size = dtype_size(dtype);
    const size_t bytes = static_cast<size_t>(size) * height * width * channels;
    host_owned = HostMemory(place, bytes);
    device_owned = DeviceMemory(place, bytes);
    host = packed(host_owned.data(), height, width, channels, dtype, size);
    device = packed(device_owned.data(), height, width, channels, dtype, size);
  }

  HostMemory host_owned;
  DeviceMemory device_owned;
  se_array host{}, device{};
};

struct Turn {
  explicit Turn(int32_t device) : lane(device) {}
  ~Turn() { (void)lane.finish(); }
  int32_t bring(Twin& twin, const se_array& from) {
    copy_array(from, twin.host, kCopyThreads);
    return lane.up(twin.device.data, twin.host.data, twin.host_owned.size());
  }

  Lane lane;
  std::unique_ptr<se_frame, Destroy> frame;
  Twin picture, chroma, nearness, out;
  se_array made{};  // the part of out.host that the frame fills
};

}  // namespace

struct se_frame_pipe {
  se_frame_config config;
  std::vector<std::unique_ptr<Turn>> turns;
  std::mutex mutex;  // of the two counts
  uint64_t submitted = 0, taken = 0;
};

namespace {

int32_t check_host(const se_frame_config& c, const se_array* picture, const se_array* chroma, const se_array* nearness) {
  const int32_t channels = c.nv12 != 0 ? 1 : c.channels;
  SE_TRY(check_array(picture, 1u << SE_UINT8, channels, channels));
  if (picture->height != c.height || picture->width != c.width) return SE_ERROR_BAD_SHAPE;
  if (c.nv12 != 0) {
    SE_TRY(check_array(chroma, 1u << SE_UINT8, 2, 2));
    if (chroma->height != (c.height + 1) / 2 || chroma->width != (c.width + 1) / 2) return SE_ERROR_BAD_SHAPE;
  }
  SE_TRY(check_array(nearness, 1u << SE_FLOAT32, 1, 1));
  return nearness->height == c.map_height && nearness->width == c.map_width ? SE_OK : SE_ERROR_BAD_SHAPE;
}

std::unique_ptr<Turn> make_turn(const se_frame_config& c, char* message, size_t message_size, int32_t* status) {
  auto turn = std::make_unique<Turn>(c.device);
  se_frame* frame = nullptr;
  *status = se_frame_create(&c, &frame, message, message_size);
  turn->frame.reset(frame);
  if (*status != SE_OK) return turn;
  *status = turn->lane.open();
  if (*status != SE_OK) {
    say(message, message_size, se_status_string(*status));
    return turn;
  }
  turn->picture.make(c.device, c.height, c.width, c.nv12 != 0 ? 1 : c.channels, SE_UINT8);
  if (c.nv12 != 0) turn->chroma.make(c.device, (c.height + 1) / 2, (c.width + 1) / 2, 2, SE_UINT8);
  turn->nearness.make(c.device, c.map_height, c.map_width, 1, SE_FLOAT32);
  turn->out.make(c.device, c.height, 2 * c.width, c.channels, SE_UINT8);  // the most that a layout needs
  return turn;
}

}  // namespace

extern "C" {

int32_t se_frame_pipe_create(const se_frame_config* config, int32_t lanes, se_frame_pipe** pipe, char* message,
                             size_t message_size) {
  const auto refused = [&](int32_t status, const char* sentence) {
    say(message, message_size, sentence);
    return status;
  };
  if (pipe != nullptr) *pipe = nullptr;
  if (config == nullptr || pipe == nullptr) return refused(SE_ERROR_NULL_POINTER, se_status_string(SE_ERROR_NULL_POINTER));
  if (lanes < 1 || lanes > 8) return refused(SE_ERROR_BAD_PARAMETER, "lanes has to be 1 to 8.");
  try {
    auto made = std::make_unique<se_frame_pipe>();
    made->config = *config;
    for (int32_t k = 0; k < lanes; ++k) {
      int32_t status = SE_OK;
      made->turns.push_back(make_turn(*config, message, message_size, &status));
      if (status != SE_OK) return status;
    }
    *pipe = made.release();
    return SE_OK;
  } catch (const std::bad_alloc&) {
    return refused(SE_ERROR_OUT_OF_MEMORY, "memory for the lanes' buffers could not be had");
  }
}

void se_frame_pipe_destroy(se_frame_pipe* pipe) { delete pipe; }

int32_t se_frame_pipe_submit(se_frame_pipe* pipe, const se_session_params* params, const se_array* picture,
                             const se_array* chroma, const se_array* nearness) {
  if (pipe == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_host(pipe->config, picture, chroma, nearness));
  Turn* turn;
  {
    const std::lock_guard<std::mutex> lock(pipe->mutex);
    if (pipe->submitted - pipe->taken == pipe->turns.size()) return SE_ERROR_BUSY;
    turn = pipe->turns[pipe->submitted % pipe->turns.size()].get();
  }
  int32_t height, width, channels;
  SE_TRY(se_frame_shape(turn->frame.get(), params, &height, &width, &channels));
  const bool nv12 = pipe->config.nv12 != 0;
  SE_TRY(turn->bring(turn->picture, *picture));
  if (nv12) SE_TRY(turn->bring(turn->chroma, *chroma));
  SE_TRY(turn->bring(turn->nearness, *nearness));
  const se_array out = packed(turn->out.device.data, height, width, channels, SE_UINT8, 1);
  SE_TRY(se_frame_run(turn->frame.get(), params, &turn->picture.device, nv12 ? &turn->chroma.device : nullptr,
                      &turn->nearness.device, &out, turn->lane.stream()));
  SE_TRY(turn->lane.down(turn->out.host.data, out.data, static_cast<size_t>(height) * width * channels));
  turn->made = packed(turn->out.host.data, height, width, channels, SE_UINT8, 1);
  const std::lock_guard<std::mutex> lock(pipe->mutex);
  ++pipe->submitted;
  return SE_OK;
}

int32_t se_frame_pipe_wait(se_frame_pipe* pipe, const se_array* out) {
  if (pipe == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_array(out, 1u << SE_UINT8, 3, 4));
  Turn* turn;
  {
    const std::lock_guard<std::mutex> lock(pipe->mutex);
    if (pipe->submitted == pipe->taken) return SE_ERROR_BUSY;
    turn = pipe->turns[pipe->taken % pipe->turns.size()].get();
  }
  SE_TRY(check_same_shape(*out, turn->made));
  const int32_t status = turn->lane.finish();
  if (status == SE_OK) copy_array(turn->made, *out, kCopyThreads);
  const std::lock_guard<std::mutex> lock(pipe->mutex);
  ++pipe->taken;  // a frame that failed is gone
  return status;
}

}  // extern "C"
