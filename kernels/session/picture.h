// SPDX-License-Identifier: Apache-2.0
// From a frame and its nearness to the picture that is shown: disparity, warp, fill, overlay, layout.
#pragma once
#include <memory>
#include <vector>

#include "secondeye/session.h"
#include "session/depth.h"

namespace se {

// A view of packed memory: [height, width, channels] of elements of `size` bytes.
inline se_array packed(const void* data, int32_t height, int32_t width, int32_t channels, int32_t dtype, int32_t size) {
  const int64_t step = int64_t{size} * channels;
  return se_array{const_cast<void*>(data), height, width, channels, dtype, step * width, step, size};
}

struct Overlay {
  std::vector<uint8_t> rgba;
  int32_t width, height, x, y;
  float disparity;
};

// The full-size plane holds kPlaneRange percent of the width for nearness 0..1; views scale it to their strength.
constexpr float kPlaneRange = 4.0f;

class PictureMaker {
 public:
  PictureMaker(const se_session_config& config, int32_t map_width, int32_t map_height);

  // nearness [map_height, map_width] -> plane: float [H, W].
  void plane(const uint8_t* frame, const float* nearness, bool plain_edges, float* plane);

  // The views of a frame in this maker's memory, or the frame itself. plane: null where there is no depth.
  void views(const uint8_t* frame, const float* plane, const se_session_params& params, const Overlay* overlay);

  // Puts the views of the last call into out, which holds picture_bytes(); gives its shape.
  se_array pack(const uint8_t* frame, const float* plane, const se_session_params& params, uint8_t* out);

  // One view, for an eye anywhere, into caller-owned memory.
  int32_t view(const uint8_t* frame, const float* plane, const se_session_params& params, const Overlay* overlay,
               float eye, float shift, const se_array& out);

  int64_t picture_bytes() const { return int64_t{2} * width_ * height_ * channels_; }
  int64_t bytes() const;

 private:
  se_array frame_of(const uint8_t* data) const { return packed(data, height_, width_, channels_, SE_UINT8, 1); }
  // d = scale * plane + offset into moves_.
  void moves(const float* plane, float scale, float offset);
  void warp(const uint8_t* frame, int32_t scale_q8, bool fill, uint8_t* to);
  void lay(const Overlay& overlay, float eye, float shift, const se_array& view) const;

  int32_t width_, height_, channels_, map_width_, map_height_, widen_;
  se_exec exec_{};
  AxisTable half_width_, half_height_, whole_width_, whole_height_;
  std::vector<float> cells_, raw_plane_, moves_;
  std::vector<uint8_t> warped_, left_, right_, holes_;
  std::vector<int32_t> map_;
  const uint8_t *left_view_ = nullptr, *right_view_ = nullptr;
};

}  // namespace se
