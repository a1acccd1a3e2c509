// SPDX-License-Identifier: Apache-2.0
// widen: near objects grow outward, so that the blended rim round them travels with them.
//
// Law (class EXACT). q = disparity_q8(d). m = the greatest q in the (2 r + 1) x (2 r + 1) window, cut at the borders.
// out = (m - q > threshold ? m : q) / 256.
#pragma once
#include "core/types.h"

namespace se {

struct WidenArgs {
  View<const float> disparity;
  View<float> out;
  int32_t radius, threshold_q8;
};

namespace SE_ISA_NAMESPACE {

#if !defined(__CUDACC__)
// scratch: (2 * radius + 2) * width int32: a ring of rows as q, and the columns' greatest.
inline void widen_rows(const WidenArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  const int32_t width = p.disparity.width, height = p.disparity.height, r = p.radius, ring = 2 * r + 1;
  int32_t* __restrict columns = scratch + (int64_t)ring * width;
  int32_t loaded = max_i32(0, y0 - r);
  for (int32_t y = y0; y < y1; ++y) {
    const int32_t first = max_i32(0, y - r), last = min_i32(height - 1, y + r);
    for (; loaded <= last; ++loaded) {
      int32_t* __restrict row = scratch + (int64_t)(loaded % ring) * width;
      for (int32_t x = 0; x < width; ++x) row[x] = disparity_q8(*p.disparity.at(loaded, x));
    }
    const int32_t* __restrict now = scratch + (int64_t)(y % ring) * width;
    for (int32_t x = 0; x < width; ++x) columns[x] = now[x];
    for (int32_t i = first; i <= last; ++i) {
      const int32_t* __restrict row = scratch + (int64_t)(i % ring) * width;
      for (int32_t x = 0; x < width; ++x) columns[x] = max_i32(columns[x], row[x]);
    }
    for (int32_t x = 0; x < width; ++x) {
      int32_t m = columns[x];
      if (x >= r && x + r < width) {
        for (int32_t k = -r; k <= r; ++k) m = max_i32(m, columns[x + k]);
      } else {
        for (int32_t k = max_i32(0, x - r); k <= min_i32(width - 1, x + r); ++k) m = max_i32(m, columns[k]);
      }
      const int32_t q = now[x];
      *p.out.at(y, x) = (float)(m - q > p.threshold_q8 ? m : q) * 0.00390625f;
    }
  }
}
#endif

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
