// SPDX-License-Identifier: Apache-2.0
// A session's pictures, on any device. On the CPU a frame is worked on where it lies. On a GPU it goes up once, is made small
// there for the motion and the network, and becomes the stereo picture by one CUDA graph; with SE_ISA_BLOCKS the same steps are
// taken on the host, in memory apart.
#pragma once
#include <chrono>
#include <memory>

#include "cuda/graph.h"
#include "secondeye/session.h"
#include "session/background.h"
#include "session/canvas.h"

namespace se {

using Clock = std::chrono::steady_clock;

// Whether the work is done in memory apart from the frames'.
inline bool apart(const se_session_config& config) { return config.device != SE_CPU || config.isa == SE_ISA_BLOCKS; }

class PictureMaker {
 public:
  // What a slot has where the work is done. May be read while its slot is nobody else's.
  class Place {
   public:
    se_array frame{}, plane{};  // uint8 [H, W, C]; float [H, W], of a frame that has depth

    int64_t bytes() const { return static_cast<int64_t>(frame_.size() + out_.size() + plane_.size()); }

   private:
    friend class PictureMaker;
    struct Key {
      se_session_params params;
      int32_t deep, plain_edges;
      const Overlay* overlay;
      const FlatMask* mask;
      const Background* background;
      Background::Since since;
    };
    Extras extras_;  // of the key: what a graph points to stays
    uint8_t* out_begin_ = nullptr;
    DeviceMemory frame_, out_, plane_;
    Mark up_;  // the frame is there
    FrameGraph graph_;
    Key key_{};
    bool recorded_ = false;
  };

  // Throws std::bad_alloc, or std::runtime_error with a sentence.
  PictureMaker(const se_session_config& config, int32_t map_width, int32_t map_height);

  // A session's threads call this first; others may have another GPU.
  int32_t enter() const { return use_gpu(config_.device, gpu_); }
  int32_t gpu() const { return gpu_; }
  // frame, out: the slot's, on the host.
  std::unique_ptr<Place> place(uint8_t* frame, uint8_t* out) const;

  // ---- submit's ----
  // Until the host's memory of a frame that went up before may be written.
  static int32_t settle(Place& place) { return place.up_.wait(); }
  // Starts to bring a frame, which stays where it is until `settle`.
  int32_t bring(Place& place, const uint8_t* frame);
  // The same of a frame on this device (NV12 as the session's are), by its owner's stream.
  int32_t bring(Place& place, const se_array& frame, void* stream);

  // ---- the first thread's ----
  // The frame made as small as the map, and waited for: uint8 [map height, map width, 3], valid until the next call.
  int32_t shrink(Place& place, const uint8_t** small);
  se_exec looking() const { return exec_on(look_.stream()); }
  int32_t looked() { return look_.finish(); }

  // ---- the second thread's ----
  // nearness: page-locked; null where there is none. extras.background: the slot's own, to be made `since`. Waits for the
  // picture, which lies in `to` (page-locked) or, when that is null, on the device. warped: when the views were there, where
  // that can be told apart from the end.
  int32_t make(Place& place, const float* nearness, bool plain_edges, const se_session_params& params, const Extras& extras,
               const Background::Since& since, uint8_t* to, se_array* picture, Clock::time_point* warped);

  int64_t bytes() const { return bytes_; }

 private:
  se_exec exec_on(void* stream) const;
  int32_t record(Place& place, const se_array& nearness, void* stream);

  const se_session_config config_;
  const bool apart_;
  const int32_t gpu_;
  Canvas canvas_;
  const DeviceAxis small_x_, small_y_;
  HostMemory small_host_;
  DeviceMemory small_, nearness_;
  se_array map_{};
  Clock::time_point warped_;
  Lane up_, look_, work_;
  int64_t bytes_ = 0;
};

// Views for se_session_render, in memory of its own, on its caller's thread.
class Renderer {
 public:
  // Throws std::bad_alloc, or std::runtime_error with a sentence.
  explicit Renderer(const se_session_config& config);

  // Tables and staging for views of a size; before render. Throws std::bad_alloc.
  void resize(int32_t height, int32_t width);
  // What is rendered from now on comes after what a stream of the session's GPU has queued.
  int32_t follow(void* stream);
  // views: at least one, whose arrays are of that size; another than the frame's is resampled. On the host, or (on_gpu) on the
  // session's GPU. They are there when this returns.
  int32_t render(const PictureMaker::Place& place, bool deep, const se_session_params& params, const Extras& extras, int32_t count,
                 const se_render_view* views, bool on_gpu);

  int64_t bytes() const { return canvas_.bytes() + static_cast<int64_t>(tile_.size() + stages_[0].size() + stages_[1].size()) + x_.bytes() + y_.bytes(); }

 private:
  const se_session_config config_;
  const bool apart_;
  Canvas canvas_;
  HostMemory stages_[2];  // views that come down, in turns
  DeviceMemory tile_;
  DeviceAxis x_, y_;
  Mark theirs_, marks_[2];
  Lane lane_;
};

}  // namespace se
