// SPDX-License-Identifier: Apache-2.0
// warp: a picture moved by its disparity, with the holes that opens.
//
// Law (class EXACT), for the right view. q[i] = disparity_q8(d[i]); source pixel i lands at X[i] = 256 i - q[i], in
// 1/256 pixel; target pixel t has its centre at 256 t. A row's backward map M[t] is the largest source position (in
// 1/256 pixel; -1 is a hole) that any of these gives to t:
//   surface law, with g = X[i+1] - X[i]:
//     0 < g <= tear        a piece of surface: X[i] <= 256 t < X[i+1] gives 256 i + floor(256 (256 t - X[i]) / g)
//     otherwise torn or folded, and each side ends half a pixel on: X[i] <= 256 t < X[i] + 128 gives 256 i, and
//                          X[i+1] - 128 <= 256 t < X[i+1] gives 256 (i+1)
//     the row's ends       reach half a pixel out in the same way
//   nearest law: t = trunc(i - d[i]) in float32 gives 256 i (d not finite or over 16384 is treated as above); with
//     wrap, -W <= t < 0 means t + W.
// Larger is nearer: what lands on t from x has disparity x - t. Painting in source order with overwrite therefore
// keeps the nearest, and so would an atomic maximum in any order.
// out[t] = (p[i] (256 - f) + p[i+1] f + 128) >> 8 with i = M >> 8, f = M & 255; holes are 0. The left view is the
// mirror image of the right view of the mirrored picture.
#pragma once
#include "core/types.h"

namespace se {

struct WarpArgs {
  View<const uint8_t> source;
  View<const float> disparity;
  View<uint8_t> out, holes;
  View<int32_t> map;  // data may be null
  int32_t law, tear_q8, wrap;
};

namespace SE_ISA_NAMESPACE {

SE_HD int32_t ceil_div_256(int32_t v) { return (v + 255) >> 8; }

// Gives source position s to the targets with lo <= 256 t < hi.
SE_HD void warp_paint(int32_t* map, int32_t width, int32_t lo, int32_t hi, int32_t s) {
  const int32_t t0 = max_i32(ceil_div_256(lo), 0), t1 = min_i32(ceil_div_256(hi), width);
  for (int32_t t = t0; t < t1; ++t) map[t] = s;
}

#if !defined(__CUDACC__)

inline void warp_map_surface(const WarpArgs& p, int32_t y, int32_t* __restrict landing, int32_t* __restrict map) {
  const int32_t width = p.source.width, tear = p.tear_q8;
  for (int32_t x = 0; x < width; ++x) landing[x] = (x << 8) - disparity_q8(*p.disparity.at(y, x));
  for (int32_t t = 0; t < width; ++t) map[t] = -1;
  warp_paint(map, width, landing[0] - 128, landing[0], 0);
  for (int32_t i = 0; i + 1 < width; ++i) {
    const int32_t a = landing[i], b = landing[i + 1], g = b - a;
    if (g > 0 && g <= tear) {
      const int32_t t0 = max_i32(ceil_div_256(a), 0), t1 = min_i32(ceil_div_256(b), width);
      for (int32_t t = t0; t < t1; ++t) {
        const int32_t into = (t << 8) - a;
        map[t] = (i << 8) + (g == 256 ? into : (into << 8) / g);
      }
    } else {
      warp_paint(map, width, a, a + 128, i << 8);
      warp_paint(map, width, b - 128, b, (i + 1) << 8);
    }
  }
  const int32_t last = landing[width - 1];
  warp_paint(map, width, last, last + 128, (width - 1) << 8);
}

inline void warp_map_nearest(const WarpArgs& p, int32_t y, int32_t* __restrict map) {
  const int32_t width = p.source.width;
  for (int32_t t = 0; t < width; ++t) map[t] = -1;
  for (int32_t x = 0; x < width; ++x) {
    float d = *p.disparity.at(y, x);
    if (!(d - d == 0.0f)) d = 0.0f;
    d = d < -16384.0f ? -16384.0f : (d > 16384.0f ? 16384.0f : d);
    int32_t t = (int32_t)((float)x - d);
    if (p.wrap != 0 && t < 0 && t >= -width) t += width;
    if (t >= 0 && t < width) map[t] = x << 8;
  }
}

// One row through a map; C is the channel count, or 0 when it is only known at run time.
template <int C>
inline void warp_sample_row(const WarpArgs& p, int32_t y, const int32_t* __restrict map) {
  const int32_t channels = C == 0 ? p.source.channels : C;
  const bool packed = C != 0;
  const uint8_t* __restrict src = p.source.row(y);
  const int64_t step = packed ? (p.source.stride_x < 0 ? -C : C) : p.source.stride_x;
  const int64_t step_c = packed ? 1 : p.source.stride_c;
  const int64_t last = p.source.width - 1;
  for (int32_t t = 0; t < p.out.width; ++t) {
    uint8_t* o = p.out.at(y, t);
    const int64_t oc = packed ? 1 : p.out.stride_c;
    const int32_t m = map[t];
    *p.holes.at(y, t) = m < 0 ? 255 : 0;
    if (m < 0) {
      for (int32_t c = 0; c < channels; ++c) o[c * oc] = 0;
      continue;
    }
    const int32_t i = m >> 8, f = m & 255;
    const uint8_t* a = src + i * step;
    const uint8_t* b = src + (i < last ? i + 1 : i) * step;
    for (int32_t c = 0; c < channels; ++c)
      o[c * oc] = (uint8_t)((a[c * step_c] * (256 - f) + b[c * step_c] * f + 128) >> 8);
  }
}

// scratch: 2 * width int32.
inline void warp_rows(const WarpArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  const int32_t width = p.source.width, channels = p.source.channels;
  const int64_t ax = p.source.stride_x < 0 ? -p.source.stride_x : p.source.stride_x;
  const int64_t ox = p.out.stride_x < 0 ? -p.out.stride_x : p.out.stride_x;
  const bool packed = p.source.stride_c == 1 && p.out.stride_c == 1 && ax == channels && ox == channels;
  for (int32_t y = y0; y < y1; ++y) {
    int32_t* map = scratch + width;
    if (p.law == SE_WARP_SURFACE)
      warp_map_surface(p, y, scratch, map);
    else
      warp_map_nearest(p, y, map);
    if (packed && channels == 3)
      warp_sample_row<3>(p, y, map);
    else if (packed && channels == 4)
      warp_sample_row<4>(p, y, map);
    else
      warp_sample_row<0>(p, y, map);
    if (p.map.data != nullptr)
      for (int32_t t = 0; t < width; ++t) *p.map.at(y, t) = map[t];
  }
}
#endif

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
