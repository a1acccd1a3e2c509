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

// What a hole is filled from: n pixels from its border on, to the right of it or to the left; none in a row that is
// nothing but hole.
struct FillBand {
  int32_t n;
  bool right;
};

// Of the hole [l, r). is_hole(x): of the same row.
template <typename IsHole>
SE_HD FillBand fill_band(const FillArgs& p, int32_t y, int32_t l, int32_t r, const IsHole& is_hole) {
  const int32_t width = p.view.width;
  if (l == 0 && r == width) return {0, false};
  const bool right = r < width && (l == 0 || fill_q(p, y, r) <= fill_q(p, y, l - 1));
  const int32_t border = right ? r : l - 1, direction = right ? 1 : -1, most = r - l + 2;
  const int64_t at_border = fill_q(p, y, border);
  int32_t n = 0;
#pragma unroll 4
  for (int32_t x = border; x >= 0 && x < width && n < most; x += direction, ++n) {
    if (is_hole(x)) break;
    const int64_t apart = fill_q(p, y, x) - at_border;
    if (apart > 512 || apart < -512) break;
  }
  return {n, right};
}

// Where pixel x of the hole [l, r) comes from; -1 when there is nothing to take.
SE_HD int32_t fill_origin(FillBand band, int32_t l, int32_t r, int32_t x) {
  if (band.n == 0) return -1;
  const int32_t skip = band.n > 2 ? 1 : 0, n = band.n - skip, k = band.right ? r - 1 - x : x - l;
  const int32_t step = skip + (k < n ? k : fill_fold(k, n));
  return band.right ? r + step : l - 1 - step;
}

// What is painted is read from pixels that are no holes, and only holes are written.
SE_HD bool fill_in_place(const FillArgs& p) { return p.out.data == p.view.data; }

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
    const FillBand band = fill_band(p, y, l, x, [&](int32_t at) { return fill_is_hole(p, y, at); });
    for (int32_t k = l; k < x; ++k) origin[k] = fill_origin(band, l, x, k);
  }
}

inline void fill_copy_row(const FillArgs& p, int32_t y) {
  if (fill_in_place(p)) return;
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

// A block is a row. Shared memory holds one bit for each pixel of it and of the rows over and under it, whether it is a
// hole, and at the first pixel of each hole how it is filled: the length of its band, and its side.
struct FillBlocks {
  using Args = FillArgs;
  static constexpr int32_t kPhases = 3, kThreads = 256;
  static constexpr uint16_t kRight = 0x8000;  // the band lies on the right; its length is in the other bits

  // Words of a row's bits, with an empty one before and one after.
  SE_HD static int32_t pitch(const Args& p) { return (p.view.width + 31) / 32 + 2; }

  static Grid grid(const Args& p) { return {1, p.view.height, 3 * (4 * (int64_t)pitch(p) + 2 * (int64_t)p.view.width)}; }

  // The bits of one of the three rows; word 0 is that of pixels 0 to 31.
  SE_HD static uint32_t* bits(const Args& p, const Block& b, int32_t row) { return (uint32_t*)b.shared + row * pitch(p) + 1; }
  SE_HD static uint16_t* bands(const Args& p, const Block& b, int32_t row) {
    return (uint16_t*)((uint32_t*)b.shared + 3 * pitch(p)) + row * p.view.width;
  }

  // One bit for each of four bytes that is not 0.
  SE_HD static uint32_t four(uint32_t v) {
    const uint32_t top = (((v & 0x7f7f7f7fu) + 0x7f7f7f7fu) | v) & 0x80808080u;
    return (top >> 7) * 0x10204080u >> 28;
  }

  SE_HD static uint32_t mirrored_bits(uint32_t v) {
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
    v = (v >> 8 & 0x00ff00ffu) | (v & 0x00ff00ffu) << 8;
    return v >> 16 | v << 16;
  }

  // The bits of pixels 32 w to 32 w + 31 of row y.
  SE_HD static uint32_t word(const Args& p, int32_t y, int32_t w) {
    const int32_t width = p.view.width, first = 32 * w;
    const int64_t step = p.holes.stride_x;
    if ((step == 1 || step == -1) && first + 32 <= width) {
      const uint8_t* at = p.holes.at(y, step == 1 ? first : first + 31);
      if (((uintptr_t)at & 15) == 0) {
        const Chunk16 low = ((const Chunk16*)at)[0], high = ((const Chunk16*)at)[1];
        uint32_t v = 0;
        for (int32_t k = 0; k < 4; ++k) v |= four(low.word[k]) << (4 * k) | four(high.word[k]) << (16 + 4 * k);
        return step == 1 ? v : mirrored_bits(v);
      }
    }
    uint32_t v = 0;
    for (int32_t k = 0; k < 32 && first + k < width; ++k) v |= (fill_is_hole(p, y, first + k) ? 1u : 0u) << k;
    return v;
  }

  // How the hole that begins at l is filled.
  SE_HD static uint16_t band(const Args& p, int32_t y, const uint32_t* mask, int32_t l) {
    const FillBand found = fill_band(p, y, l, block_run_end(mask, l), [mask](int32_t x) { return block_bit(mask, x); });
    return (uint16_t)(found.n | (found.right ? kRight : 0));
  }

  // Where hole pixel x of a row comes from, or -1.
  SE_HD static int32_t origin(const uint32_t* mask, const uint16_t* bands, int32_t x) {
    const int32_t l = block_run_begin(mask, x);
    const bool right = (bands[l] & kRight) != 0;
    return fill_origin({bands[l] & (kRight - 1), right}, l, right ? block_run_end(mask, x) : x, x);
  }

  SE_HD static int32_t value(const Args& p, int32_t y, int32_t origin, int32_t c) {
    return origin < 0 ? 0 : fill_value(p, y, origin, c);
  }

  SE_HD static void paint(const Args& p, const Block& b, int32_t x) {
    const int32_t y = b.y, from = origin(bits(p, b, 1), bands(p, b, 1), x);
    const bool above = block_bit(bits(p, b, 0), x), below = block_bit(bits(p, b, 2), x);
    const int32_t over = above ? origin(bits(p, b, 0), bands(p, b, 0), x) : -1;
    const int32_t under = below ? origin(bits(p, b, 2), bands(p, b, 2), x) : -1;
    for (int32_t c = 0; c < p.view.channels; ++c) {
      const int32_t m = value(p, y, from, c);
      const int32_t u = above ? value(p, y - 1, over, c) : m, d = below ? value(p, y + 1, under, c) : m;
      fill_put(p, y, x, c, (u + 2 * m + d + 2) >> 2);
    }
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const int32_t width = p.view.width, height = p.view.height, channels = p.view.channels, y = b.y, words = pitch(p) - 2;
    if (k == 0) {
      for (int32_t i = b.thread; i < 3 * (words + 2); i += kThreads) {
        const int32_t row = i / (words + 2), w = i - row * (words + 2) - 1, at = y + row - 1;
        bits(p, b, row)[w] = at >= 0 && at < height && w >= 0 && w < words ? word(p, at, w) : 0;
      }
      if (fill_in_place(p)) return;
      if (p.bytes == 1 && row_is_packed(p.view) && p.view.stride_x == p.out.stride_x && p.out.stride_c == 1)
        return block_copy(row_begin(p.out, y), row_begin(p.view, y), (int64_t)width * channels, b.thread, kThreads);
      for (int32_t x = b.thread; x < width; x += kThreads)
        for (int32_t c = 0; c < channels; ++c) fill_put(p, y, x, c, fill_value(p, y, x, c));
    } else if (k == 1) {
      for (int32_t i = b.thread; i < 3 * words; i += kThreads) {
        const int32_t row = i / words, w = i - row * words;
        const uint32_t* mask = bits(p, b, row);
        for (uint32_t starts = mask[w] & ~(mask[w] << 1 | mask[w - 1] >> 31); starts != 0; starts &= starts - 1) {
          const int32_t l = 32 * w + block_zeros_below(starts);
          bands(p, b, row)[l] = band(p, y + row - 1, mask, l);
        }
      }
    } else {
      const uint32_t* mask = bits(p, b, 1);
      for (int32_t x = b.thread; x < width; x += kThreads)
        if (block_bit(mask, x)) paint(p, b, x);
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
