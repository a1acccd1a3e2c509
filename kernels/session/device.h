// SPDX-License-Identifier: Apache-2.0
// A session's pictures on a GPU: a frame goes up once, is made small there for the motion and the network, and becomes the
// stereo picture by one CUDA graph. With SE_ISA_BLOCKS on the host, by the same steps.
#pragma once
#include "cuda/graph.h"
#include "secondeye/session.h"
#include "session/canvas.h"

namespace se {

class DeviceMaker {
 public:
  // What a slot has here. `frame` and `out` may be read while their slot is nobody else's.
  class Place {
   public:
    DeviceMemory frame, out;

   private:
    friend class DeviceMaker;
    struct Key {
      se_session_params params;
      int32_t deep, plain_edges;
    };
    Mark up_;  // the frame is there
    FrameGraph graph_;
    Key key_{};
    bool recorded_ = false;
  };

  // Throws std::bad_alloc, or std::runtime_error with a sentence.
  DeviceMaker(const se_session_config& config, int32_t map_width, int32_t map_height);

  // A session's threads call this first; others may have another GPU.
  int32_t enter() const { return use_gpu(config_.device, gpu_); }
  std::unique_ptr<Place> place() const;
  se_array frame_of(const Place& place) const { return packed(place.frame.data(), config_.height, config_.width, config_.channels, SE_UINT8, 1); }

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
  // nearness: page-locked; null where there is none. Waits for the picture, which lies in `to` (page-locked) or, when that is
  // null, in place.out.
  int32_t make(Place& place, const float* nearness, bool plain_edges, const se_session_params& params, uint8_t* to, se_array* picture);

  int64_t bytes() const { return bytes_; }

 private:
  se_exec exec_on(void* stream) const;
  int32_t record(Place& place, void* stream);

  const se_session_config config_;
  const int32_t gpu_;
  Canvas canvas_;
  const DeviceAxis small_x_, small_y_;
  HostMemory small_host_;
  DeviceMemory small_, nearness_;
  se_array plane_{}, map_{};
  Lane up_, look_, work_;
  int64_t bytes_ = 0;
};

}  // namespace se
