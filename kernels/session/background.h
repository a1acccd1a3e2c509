// SPDX-License-Identifier: Apache-2.0
// What was seen behind things: for every pixel of the frame the farthest surface that has been there, carried along as a
// still or panning camera moves. A frame's memory is made of the frame's before it alone (no looking ahead), in integers
// and single multiplications, so the same frames give the same bytes.
#pragma once
#include <cstdint>
#include <vector>

#include "cuda/graph.h"
#include "ops/remember.op.h"
#include "secondeye/session.h"

namespace se {

// Where the camera points, summed up since the start, 1/256 pixel: the picture's content has moved by this.
struct Pan {
  int64_t x_q8 = 0, y_q8 = 0;
  uint64_t era = 0;  // grows where nothing of before can be placed: at a cut, when the camera turns or zooms
};

// A frame's memory where the work is done; its pixels are Canvas's matter.
class Background {
 public:
  Background() = default;
  // Throws std::bad_alloc.
  Background(int32_t device, int32_t width, int32_t height, int32_t channels);
  int64_t bytes() const { return static_cast<int64_t>(paint_.size() + age_.size() + level_.size()); }

  // What this frame's memory is made of: the one before, or null; the content has moved by (dx, dy) since.
  struct Since {
    const Background* before;
    int32_t dx, dy;
  };
  Since follow(const Background* before, const Pan& pan);
  void forget(const Pan& pan);

  // Three planes, of which it is known what lies in them after follow.
  Memory3 memory() const;

 private:
  int32_t width_ = 0, height_ = 0, channels_ = 0;
  bool knows_ = false;
  Pan pan_;
  DeviceMemory paint_, age_, level_;
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
