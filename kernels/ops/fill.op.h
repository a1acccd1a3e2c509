// SPDX-License-Identifier: Apache-2.0
// fill: disocclusions painted from the background beside them.
//
// Law (class EXACT), for the right view; all of it within rows but the last step. m[t] is the warp's backward map
// (source position in 1/256 pixel, -1 in holes), q[t] = m[t] - 256 t the disparity there. For each hole [l, r):
//   The background side is the right one (border b = r, direction +1) when r < W and (l == 0 or q[r] <= q[l-1]), else
//   the left one (b = l - 1, direction -1); a row of nothing but hole stays 0.
//   Its band is the run of pixels b, b + dir, ... that are no holes, whose q is within 512 (2 pixels) of q[b], cut at
//   the hole's width plus 2; its length is n. The border pixel itself is left out when n > 2 (it may carry a rim of
//   what stood before it): skip = 1, else 0.
//   The hole's k-th pixel from the border takes the band's pixel skip + fold(k, n - skip), where fold walks to and
//   fro: 0 1 ... n-1 n-1 ... 1 0 0 1 ... That carries texture over, mirrored, and never repeats a single pixel.
// Then, in holes only: out[y] = (up + 2 F[y] + down + 2) >> 2, F the rows above, up and down F's neighbours in y
// where they are hole too, else F[y] itself. This breaks streaks that come from a border which differs row by row.
// The values are bytes, or 16-bit numbers.
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct FillArgs {
  View<const uint8_t> view, holes;  // the view of 1 or 2 bytes a value; strides are in bytes
  View<const int32_t> map;
  View<uint8_t> out;  // as the view
  int32_t bytes;
};

namespace SE_ISA_NAMESPACE {

SE_HD int32_t fill_fold(int32_t k, int32_t n) {
  const int32_t r = k % (2 * n);
  return r < n ? r : 2 * n - 1 - r;
}

SE_HD bool fill_is_hole(const FillArgs& p, int32_t y, int32_t x) { return *p.holes.at(y, x) != 0; }

SE_HD int32_t fill_value(const FillArgs& p, int32_t y, int32_t x, int32_t c) {
  const uint8_t* v = p.view.at(y, x, c);
  return p.bytes == 1 ? *v : *(const uint16_t*)v;
}

SE_HD void fill_put(const FillArgs& p, int32_t y, int32_t x, int32_t c, int32_t value) {
  uint8_t* o = p.out.at(y, x, c);
  if (p.bytes == 1)
    *o = (uint8_t)value;
  else
    *(uint16_t*)o = (uint16_t)value;
}

// 64 bits: the map is the caller's, and may hold anything.
SE_HD int64_t fill_q(const FillArgs& p, int32_t y, int32_t x) { return (int64_t)*p.map.at(y, x) - (x << 8); }

// Writes into origin[l..r) where each pixel of the hole comes from; -1 when there is nothing to take.
template <typename Origin>
SE_HD void fill_hole(const FillArgs& p, int32_t y, int32_t l, int32_t r, Origin* origin) {
  const int32_t width = p.view.width;
  if (l == 0 && r == width) {
    for (int32_t x = l; x < r; ++x) origin[x] = (Origin)-1;
    return;
  }
  const bool right = r < width && (l == 0 || fill_q(p, y, r) <= fill_q(p, y, l - 1));
  const int32_t border = right ? r : l - 1, direction = right ? 1 : -1;
  const int32_t most = r - l + 2;
  const int64_t at_border = fill_q(p, y, border);
  int32_t n = 0;
  for (int32_t x = border; x >= 0 && x < width && n < most; x += direction, ++n) {
    if (fill_is_hole(p, y, x)) break;
    const int64_t apart = fill_q(p, y, x) - at_border;
    if (apart > 512 || apart < -512) break;
  }
  const int32_t skip = n > 2 ? 1 : 0;
  for (int32_t k = 0; k < r - l; ++k) {
    const int32_t x = right ? r - 1 - k : l + k;
    origin[x] = (Origin)(border + direction * (skip + fill_fold(k, n - skip)));
  }
}

#if !defined(__CUDACC__)
// The first hole at or after x in a row, or its width.
inline int32_t fill_next_hole(const FillArgs& p, int32_t y, int32_t x) {
  const int32_t width = p.view.width;
  if (p.holes.stride_x == 1) {
    const uint8_t* row = p.holes.row(y);
    for (; x + 8 <= width; x += 8) {
      uint64_t eight;
      __builtin_memcpy(&eight, row + x, 8);
      if (eight != 0) break;
    }
  }
  while (x < width && !fill_is_hole(p, y, x)) ++x;
  return x;
}

// The origins of a row's holes; what is no hole is left as it was.
inline void fill_origins(const FillArgs& p, int32_t y, int32_t* __restrict origin) {
  const int32_t width = p.view.width;
  for (int32_t x = fill_next_hole(p, y, 0); x < width; x = fill_next_hole(p, y, x)) {
    const int32_t l = x;
    while (x < width && fill_is_hole(p, y, x)) ++x;
    fill_hole(p, y, l, x, origin);
  }
}

inline void fill_copy_row(const FillArgs& p, int32_t y) {
  const int32_t width = p.view.width, channels = p.view.channels;
  const int64_t vx = p.view.stride_x, ox = p.out.stride_x, step = (int64_t)channels * p.bytes;
  if (p.view.stride_c == p.bytes && p.out.stride_c == p.bytes && vx == ox && (vx == step || vx == -step)) {
    // Backward rows are the same bytes, begun at the other end.
    const int64_t shift = vx < 0 ? (width - 1) * step : 0;
    __builtin_memcpy(p.out.row(y) - shift, p.view.row(y) - shift, (size_t)(width * step));
    return;
  }
  for (int32_t x = 0; x < width; ++x)
    for (int32_t c = 0; c < channels; ++c) fill_put(p, y, x, c, fill_value(p, y, x, c));
}

// scratch: 3 * width int32. Rows above and below are worked out again at the edges of a chunk.
inline void fill_rows(const FillArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  const int32_t width = p.view.width, height = p.view.height, channels = p.view.channels;
  for (int32_t y = y0 - 1; y <= y1; ++y) {
    if (y >= 0 && y < height) fill_origins(p, y, scratch + (y + 3) % 3 * (int64_t)width);
    const int32_t now = y - 1;
    if (now < y0 || now >= y1) continue;
    fill_copy_row(p, now);
    const int32_t* over = scratch + (now + 2) % 3 * (int64_t)width;
    const int32_t* mid = scratch + (now + 3) % 3 * (int64_t)width;
    const int32_t* under = scratch + (now + 4) % 3 * (int64_t)width;
    for (int32_t x = fill_next_hole(p, now, 0); x < width; x = fill_next_hole(p, now, x + 1)) {
      const bool above = now > 0 && fill_is_hole(p, now - 1, x);
      const bool below = now + 1 < height && fill_is_hole(p, now + 1, x);
      const int32_t om = mid[x];
      const int32_t ou = above ? over[x] : om, od = below ? under[x] : om;
      for (int32_t c = 0; c < channels; ++c) {
        const int32_t m = om < 0 ? 0 : fill_value(p, now, om, c);
        const int32_t u = !above ? m : (ou < 0 ? 0 : fill_value(p, now - 1, ou, c));
        const int32_t d = !below ? m : (od < 0 ? 0 : fill_value(p, now + 1, od, c));
        fill_put(p, now, x, c, (u + 2 * m + d + 2) >> 2);
      }
    }
  }
}
#endif

// A block is a row; the origins of its holes and of the holes over and under it stand in shared memory. The thread
// that meets the beginning of a hole works out all of it.
struct FillBlocks {
  using Args = FillArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256;

  static Grid grid(const Args& p) { return {1, p.view.height, 6 * (int64_t)p.view.width}; }

  SE_HD static int32_t value(const Args& p, int32_t y, int32_t origin, int32_t c) {
    return origin == 0xffff ? 0 : fill_value(p, y, origin, c);
  }

  SE_HD static void origins(const Args& p, int32_t y, uint16_t* origin, int32_t thread) {
    const int32_t width = p.view.width;
    for (int32_t l = thread; l < width; l += kThreads) {
      if (!fill_is_hole(p, y, l) || (l > 0 && fill_is_hole(p, y, l - 1))) continue;
      int32_t r = l + 1;
      while (r < width && fill_is_hole(p, y, r)) ++r;
      fill_hole(p, y, l, r, origin);
    }
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const int32_t width = p.view.width, height = p.view.height, channels = p.view.channels, y = b.y;
    uint16_t *over = (uint16_t*)b.shared, *mid = over + width, *under = mid + width;
    if (k == 0) {
      if (y > 0) origins(p, y - 1, over, b.thread);
      origins(p, y, mid, b.thread);
      if (y + 1 < height) origins(p, y + 1, under, b.thread);
      if (p.bytes == 1 && row_is_packed(p.view) && p.view.stride_x == p.out.stride_x && p.out.stride_c == 1)
        return block_copy(row_begin(p.out, y), row_begin(p.view, y), (int64_t)width * channels, b.thread, kThreads);
      for (int32_t x = b.thread; x < width; x += kThreads)
        for (int32_t c = 0; c < channels; ++c) fill_put(p, y, x, c, fill_value(p, y, x, c));
      return;
    }
    for (int32_t x = b.thread; x < width; x += kThreads) {
      if (!fill_is_hole(p, y, x)) continue;
      const bool above = y > 0 && fill_is_hole(p, y - 1, x), below = y + 1 < height && fill_is_hole(p, y + 1, x);
      for (int32_t c = 0; c < channels; ++c) {
        const int32_t m = value(p, y, mid[x], c);
        const int32_t u = above ? value(p, y - 1, over[x], c) : m, d = below ? value(p, y + 1, under[x], c) : m;
        fill_put(p, y, x, c, (u + 2 * m + d + 2) >> 2);
      }
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
