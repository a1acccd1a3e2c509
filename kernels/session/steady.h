// SPDX-License-Identifier: Apache-2.0
// Depth of a live picture made steady: carried along the motion, fitted to what was there, averaged where both agree.
// The same method as runtime/video/temporal.py, without looking ahead.
#pragma once
#include <cstdint>
#include <vector>

#include "secondeye/secondeye.h"

namespace se {

class SteadyDepth {
 public:
  // keep: share of the past, 0..0.98.
  SteadyDepth(int32_t width, int32_t height, float keep);

  // The next frame's small grey picture, [height, width]. Carries the depth to it. Gives whether a shot begins.
  bool look(const uint8_t* luma);
  // The network's depth of the frame that was looked at last; larger is nearer, finite.
  void take(const float* depth);
  // The same, of an earlier frame whose grey picture was `luma`; false where it shows another place, and is not taken.
  bool take_older(const float* depth, const uint8_t* luma);

  const float* nearness() const { return nearness_.data(); }  // 0 far .. 1 near
  const uint8_t* luma() const { return luma_.data(); }
  // int32 [rows, columns, 3] of the frame that was looked at last, until depth is taken: se_motion's.
  const int32_t* blocks() const { return blocks_.data(); }
  // False from a shot's beginning until it has depth; nearness is then anything.
  bool has_depth() const { return has_depth_; }
  int64_t bytes() const;

 private:
  void motion(const uint8_t* now, const uint8_t* before);
  template <typename T>
  void carried(const T* from, T* to) const;
  float unmatched() const;
  void agreement(const uint8_t* before);
  void blend(const float* depth, const float* past_of_it);
  bool fit(const float* depth, float* slope, float* offset);
  void range(const float* depth, float* low, float* high);

  int32_t width_, height_, rows_, columns_, half_width_, half_height_, half_rows_, half_columns_;
  float keep_;
  bool has_depth_ = false, has_luma_ = false;
  std::vector<uint8_t> luma_, before_, half_now_, half_before_, moved_;
  std::vector<float> nearness_, spare_, sure_, pairs_x_, pairs_y_, apart_, sorted_;
  std::vector<uint8_t> still_;
  std::vector<int32_t> blocks_, coarse_, start_, counts_;
};

}  // namespace se
