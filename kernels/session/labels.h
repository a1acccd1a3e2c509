// SPDX-License-Identifier: Apache-2.0
// What labels do at a depth map's resolution. runtime/alignment.py states both laws in NumPy; every step is exact, or one
// rounding in a stated order, so that the bytes are the same.
#pragma once
#include <cstdint>
#include <vector>

#include "secondeye/secondeye.h"

namespace se {

// Soft edges of a map at objects' borders are made steps there.
class EdgeAligner {
 public:
  EdgeAligner(int32_t width, int32_t height);
  // values: [height, width], finite, in place; labels: [height, width], 0 is no object and is left as it is.
  void align(float* values, const uint16_t* labels);
  int64_t bytes() const { return static_cast<int64_t>(near_.size() * 11); }

 private:
  void find_near(const uint16_t* labels);
  float spread(const float* values, int32_t y, int32_t x) const;

  int32_t width_, height_;
  std::vector<uint8_t> border_, near_, known_;
  std::vector<int32_t> left_;
  std::vector<float> means_;
};

// A key frame's labels at another frame of the shot.
class LabelCarrier {
 public:
  LabelCarrier(int32_t width, int32_t height);
  // now, key: [height, width], brightness of the two; labels: [height, width], the key frame's; small: [height, width, 3],
  // this frame; moves: [rows, columns, 3], where each block is sought in the key frame, and then where it was found
  // (se_motion's); parts: [height, width], label + 1, 0 where it is not known.
  void carry(const uint8_t* now, const uint8_t* key, const uint16_t* labels, const uint8_t* small, int32_t* moves, int32_t* parts);
  // The first half of it, for a key frame whose labels are still to come.
  void seek(const uint8_t* now, const uint8_t* key, int32_t* moves);
  int32_t rows() const { return rows_; }
  int32_t columns() const { return columns_; }
  int64_t bytes() const;

 private:
  void regrow(const uint8_t* small, int32_t* parts);

  int32_t width_, height_, rows_, columns_;
  std::vector<int32_t> found_, moved_, left_;
  std::vector<uint8_t> choice_;
  std::vector<float> colour_;
};

}  // namespace se
