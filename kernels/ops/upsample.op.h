// SPDX-License-Identifier: Apache-2.0
// upsample: a disparity map from the model's resolution to the picture's, with edges put where the picture has them.
//
// Law (class EXACT). Map h x w as q = disparity_q8; picture H x W. Cell centres coincide: pixel y lies at
//   py = floor(((2 y + 1) h * 128) / H) - 128 in 1/256 cell, clamped to [0, 256 (h - 1)]; columns likewise.
// Bilinear: iy = py >> 8, fy = py & 255 (next row clamped), weights (256 - fy, fy) x (256 - fx, fx), sum 65536, result
//   (sum + 32768) >> 16.
// Guided: the nearest cell is (py + 128) >> 8; its window is the 5 x 5 cells round it that exist, with least lo and
//   greatest hi. Where hi - lo <= threshold the bilinear value stands. Else (Min et al., Depth Video Enhancement Based
//   on Weighted Mode Filtering, 2012, with two modes) cells with q <= lo + (hi - lo) / 3 vote far, those with
//   q >= hi - (hi - lo) / 3 vote near; a vote weighs kSpace[distance] * colour(guide of the cell, pixel), distance =
//   |dy| + |dx| in cells, colour(s) = max(1, 256 >> (s >> 4)) for s the sum of absolute differences of the three
//   channels. The heavier side wins, near on a tie, and the result is its weighted mean, (sum + weight / 2) / weight.
// The guide of a cell is the picture's pixel at the cell's centre, row floor((2 r + 1) H / (2 h)).
#pragma once
#include "core/types.h"

namespace se {

// Made once per call by the C interface. q: the map, [h, w]; low, high: least and greatest of each cell's window;
// column: upsample_position of each output column; guide: [h, w, 4], the last byte unused.
struct UpsampleTables {
  const int32_t *q, *low, *high, *column;
  const uint8_t* guide;
};

struct UpsampleArgs {
  View<const float> map;
  View<const uint8_t> picture;
  View<float> out;
  int32_t guided, threshold_q8;
  UpsampleTables tables;
};

namespace SE_ISA_NAMESPACE {

SE_HD int32_t upsample_position(int32_t i, int32_t from, int32_t to) {
  const int64_t p = ((2 * (int64_t)i + 1) * from * 128) / to - 128;
  const int64_t most = 256 * (int64_t)(from - 1);
  return (int32_t)(p < 0 ? 0 : (p > most ? most : p));
}

SE_HD int32_t upsample_centre(int32_t i, int32_t cells, int32_t pixels) {
  return (int32_t)(((2 * (int64_t)i + 1) * pixels) / (2 * (int64_t)cells));
}

SE_HD int32_t upsample_bilinear(int32_t a, int32_t b, int32_t c, int32_t d, int32_t fy, int32_t fx) {
  const int32_t top = a * (256 - fx) + b * fx, low = c * (256 - fx) + d * fx;
  return (int32_t)(((int64_t)top * (256 - fy) + (int64_t)low * fy + 32768) >> 16);
}

SE_HD int32_t upsample_colour(const uint8_t* a, const uint8_t* b) {
  int32_t sum = 0;
  for (int32_t c = 0; c < 3; ++c) {
    const int32_t d = (int32_t)a[c] - (int32_t)b[c];
    sum += d < 0 ? -d : d;
  }
  const int32_t weight = (sum >> 4) > 8 ? 0 : 256 >> (sum >> 4);
  return weight < 1 ? 1 : weight;
}

#if !defined(__CUDACC__)
inline int32_t upsample_vote(const UpsampleTables& t, int32_t h, int32_t w, int32_t r, int32_t s, const uint8_t* pixel) {
  const int32_t space[9] = {16, 12, 9, 6, 4, 3, 2, 1, 1};
  const int32_t lo = t.low[r * w + s], hi = t.high[r * w + s], third = (hi - lo) / 3;
  int64_t sum[2] = {0, 0};
  int32_t weight[2] = {0, 0};
  for (int32_t dy = -2; dy <= 2; ++dy) {
    if (r + dy < 0 || r + dy >= h) continue;
    for (int32_t dx = -2; dx <= 2; ++dx) {
      if (s + dx < 0 || s + dx >= w) continue;
      const int32_t cell = (r + dy) * w + s + dx, q = t.q[cell];
      const int32_t near = q >= hi - third ? 1 : 0;
      if (near == 0 && q > lo + third) continue;
      const int32_t vote = space[(dy < 0 ? -dy : dy) + (dx < 0 ? -dx : dx)] * upsample_colour(t.guide + 4 * cell, pixel);
      weight[near] += vote;
      sum[near] += (int64_t)vote * (q - lo);
    }
  }
  const int32_t side = weight[1] >= weight[0] ? 1 : 0;
  return lo + (int32_t)((sum[side] + weight[side] / 2) / weight[side]);
}

inline void upsample_rows(const UpsampleArgs& p, int32_t y0, int32_t y1) {
  const UpsampleTables& t = p.tables;
  const int32_t h = p.map.height, w = p.map.width;
  for (int32_t y = y0; y < y1; ++y) {
    const int32_t py = upsample_position(y, h, p.out.height), fy = py & 255, iy = py >> 8;
    const int32_t* top = t.q + (int64_t)iy * w;
    const int32_t* low = t.q + (int64_t)min_i32(iy + 1, h - 1) * w;
    const int32_t r = (py + 128) >> 8;
    for (int32_t x = 0; x < p.out.width; ++x) {
      const int32_t px = t.column[x], fx = px & 255, ix = px >> 8, jx = min_i32(ix + 1, w - 1);
      const int32_t s = (px + 128) >> 8, cell = r * w + s;
      int32_t q;
      if (p.guided != 0 && t.high[cell] - t.low[cell] > p.threshold_q8) {
        uint8_t pixel[3];
        for (int32_t c = 0; c < 3; ++c) pixel[c] = *p.picture.at(y, x, c);
        q = upsample_vote(t, h, w, r, s, pixel);
      } else {
        q = upsample_bilinear(top[ix], top[jx], low[ix], low[jx], fy, fx);
      }
      *p.out.at(y, x) = (float)q * 0.00390625f;
    }
  }
}
#endif

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
