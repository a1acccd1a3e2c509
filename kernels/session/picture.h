// SPDX-License-Identifier: Apache-2.0
// From a frame and its nearness to the picture that is shown: disparity, warp, fill, overlay, layout.
#pragma once
#include <memory>
#include <vector>

#include "secondeye/session.h"
#include "session/background.h"
#include "session/canvas.h"

namespace se {

struct Overlay {
  std::vector<uint8_t> rgba;
  int32_t width, height, x, y;
  float disparity;
};

// What in the frame itself stays flat: [H, W], not 0 where it does.
struct FlatMask {
  std::vector<uint8_t> cover;
  float disparity;
};

// What lies over the views, and what was behind things before; null where there is none.
struct Extras {
  std::shared_ptr<const Overlay> overlay;
  std::shared_ptr<const FlatMask> mask;
  const Background* background = nullptr;
};

// Where a view's eye stands, in shares of a pair's distance; shift moves the view to the left, pixels.
struct Eye {
  float across, down, shift;
};

class PictureMaker {
 public:
  PictureMaker(const se_session_config& config, int32_t map_width, int32_t map_height);

  // nearness [map_height, map_width] -> plane: float [H, W].
  void plane(const uint8_t* frame, const float* nearness, bool plain_edges, float* plane);

  // The views of a frame in this maker's memory, or the frame itself. plane: null where there is no depth.
  void views(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras);

  // Puts the views of the last call into out, which holds two frames; gives its shape.
  se_array pack(const uint8_t* frame, const float* plane, const se_session_params& params, uint8_t* out);

  // One view, for an eye anywhere, into caller-owned memory of the frame's size, or of another (resampled by the tables).
  void view(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras,
            const Eye& eye, const se_array& out);
  void view(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras,
            const Eye& eye, const AxisTable& x, const AxisTable& y, const se_array& out);

  int64_t bytes() const { return canvas_.bytes(); }

 private:
  se_array frame_of(const uint8_t* data) const { return packed(data, height_, width_, channels_, SE_UINT8, 1); }
  // d = scale * plane + offset into moves_; at what stays flat, `flat`.
  void moves(const float* plane, float scale, float offset, const FlatMask* mask, float flat);
  // The same into moves_ for the view that map_ is of, so that a second step can go down or up from it.
  void moves_of_view(const float* plane, bool from_left, float scale, float offset, const FlatMask* mask, Eye eye);
  void recall(const Background& memory, bool from_left, float scale, float offset, uint8_t* to) const;
  void recall_row(const Background& memory, int32_t y, bool from_left, float scale, float offset, uint8_t* to) const;
  void eye(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras,
           const Eye& eye, uint8_t* to);
  void lay(const Overlay& overlay, const Eye& eye, uint8_t* view) const;
  void keep(const uint8_t* frame, const FlatMask& mask, const Eye& eye, uint8_t* view) const;

  const int32_t width_, height_, channels_, map_width_, map_height_;
  se_exec exec_{};
  Canvas canvas_;
  float* const moves_;  // the canvas's, on the host
  uint8_t *const left_, *const right_;
  const int32_t* const map_;
  const uint8_t *left_view_ = nullptr, *right_view_ = nullptr;
};

}  // namespace se
