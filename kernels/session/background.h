// SPDX-License-Identifier: Apache-2.0
// What was seen behind things: for every pixel of the frame the farthest surface that has been there, carried along as a
// still or panning camera moves. A frame's memory is made of the frame's before it alone (no looking ahead), in integers
// and single multiplications, so the same frames give the same bytes.
#pragma once
#include <cstdint>
#include <vector>

#include "secondeye/session.h"

namespace se {

// Where the camera points, summed up since the start, 1/256 pixel: the picture's content has moved by this.
struct Pan {
  int64_t x_q8 = 0, y_q8 = 0;
  uint64_t era = 0;  // grows where nothing of before can be placed: at a cut, when the camera turns or zooms
};

class Background {
 public:
  void resize(int32_t width, int32_t height, int32_t channels);
  int64_t bytes() const { return static_cast<int64_t>(paint_.size() + age_.size() + 4 * level_.size()); }

  // This frame's memory out of the one before, or of nothing. plane: float [H, W], larger is nearer; range: what spans
  // far to near in it.
  void follow(const Background* before, const uint8_t* frame, const float* plane, float range, const Pan& pan, int32_t threads);
  void forget(const Pan& pan);

  // Whether something is known behind column x of row y.
  bool knows(int32_t y, int32_t x) const { return age_[at(y, x)] != 0; }
  float level(int32_t y, int32_t x) const { return level_[at(y, x)]; }
  const uint8_t* paint(int32_t y, int32_t x) const { return paint_.data() + at(y, x) * channels_; }

 private:
  int64_t at(int32_t y, int32_t x) const { return int64_t{y} * width_ + x; }
  void follow_rows(const Background* before, const uint8_t* frame, const float* plane, float tolerance, int32_t dx, int32_t dy,
                   int32_t y0, int32_t y1);

  int32_t width_ = 0, height_ = 0, channels_ = 0;
  Pan pan_;
  std::vector<uint8_t> paint_, age_;  // age: 0 knows nothing, 1 is seen now, 255 is oldest
  std::vector<float> level_;
};

// How the far part of the picture moves from frame to frame, when it moves as one.
class PanFinder {
 public:
  PanFinder(int32_t width, int32_t height, int32_t channels);
  int64_t bytes() const { return static_cast<int64_t>(now_.size() + before_.size()); }

  // The next frame. blocks: int32 [rows, columns, 3] (dy, dx, difference) of 8 x 8 at the small size, or null at a cut;
  // nearness: float [small height, small width] carried to this frame.
  const Pan& look(const uint8_t* frame, const int32_t* blocks, const float* nearness, int32_t small_width, int32_t small_height);

 private:
  bool most_common(const int32_t* blocks, const float* nearness, int32_t small_width, int32_t small_height, int32_t* dx, int32_t* dy);
  int64_t difference(int32_t dx, int32_t dy) const;

  int32_t width_, height_, channels_;
  bool first_ = true;
  std::vector<uint8_t> now_, before_;  // the green channel
  std::vector<uint8_t> far_;           // of the points where differences are taken
  std::vector<int32_t> votes_;
  Pan pan_;
};

}  // namespace se
