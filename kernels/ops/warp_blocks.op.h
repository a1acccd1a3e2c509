// SPDX-License-Identifier: Apache-2.0
// warp's block programs (see warp.op.h for the law): one launch, one read and one write of the picture.
#pragma once
#include "core/block.h"
#include "ops/warp.op.h"

namespace se {

// Views whose bytes lie so that four pixels at a time can be read and written as words (see warp_is_packed).
struct WarpPackedArgs : WarpViewsArgs {};

namespace SE_ISA_NAMESPACE {

// Gives source position s to the targets with lo <= 256 t < hi, unless a greater one has them.
SE_HD void warp_claim(int32_t* map, int32_t width, int32_t lo, int32_t hi, int32_t s) {
  const int32_t t1 = min_i32(ceil_div_256(hi), width);
  for (int32_t t = max_i32(ceil_div_256(lo), 0); t < t1; ++t) block_max(map + t, s);
}

// floor(n / g) for 0 <= n < 256 g, g <= 16384: a quotient of floats is off by one at most.
SE_HD int32_t warp_share(int32_t n, int32_t g) {
  const int32_t q = (int32_t)block_quotient((float)n, (float)g), rest = n - q * g;
  return q + (rest >= g ? 1 : 0) - (rest < 0 ? 1 : 0);
}

// What lies between the landings a and b of source pixels i and i + 1 (the last pixel has no next).
SE_HD void warp_draw(const WarpArgs& p, int32_t i, int32_t a, int32_t b, int32_t* map) {
  const int32_t width = p.source.width, g = b - a;
  if (i == 0) warp_claim(map, width, a - 128, a, 0);
  if (i == width - 1) {
    warp_claim(map, width, a, a + 128, i << 8);
  } else if (g > 0 && g <= p.tear_q8) {
    const int32_t t1 = min_i32(ceil_div_256(b), width);
    for (int32_t t = max_i32(ceil_div_256(a), 0); t < t1; ++t) block_max(map + t, (i << 8) + warp_share(((t << 8) - a) << 8, g));
  } else {
    warp_claim(map, width, a, a + 128, i << 8);
    warp_claim(map, width, b - 128, b, (i + 1) << 8);
  }
}

// A block is a row of a view. Its map, then its pixels, stand in shared memory, and beside them the source's row where
// there is room, fetched 16 bytes at a time. One read of the picture and one write; blocks of one row lie side by side,
// so that further views find the row in the cache.
struct WarpBlocks {
  using Args = WarpViewsArgs;
  static constexpr int32_t kPhases = 4, kThreads = 256;
  static constexpr int32_t kBatch = 4;  // loads that a thread has on their way at once

  SE_HD static int64_t map_bytes(const WarpArgs& p) { return (4 * (int64_t)p.source.width + 15) / 16 * 16; }

  // The map, and the row with up to 15 bytes before it, which keep its place within 16 bytes.
  SE_HD static int64_t staged_bytes(const WarpArgs& p) {
    return map_bytes(p) + (int64_t)p.source.width * p.source.channels + 15;
  }

  SE_HD static bool staged(const WarpArgs& p) {
    return p.dtype == SE_UINT8 && row_is_packed(p.source) && staged_bytes(p) <= kPlainShared;
  }

  static Grid grid(const Args& p) {
    const WarpArgs& one = p.views[0];
    return {p.count, one.source.height, staged(one) ? staged_bytes(one) : map_bytes(one)};
  }

  SE_HD static uint8_t* staged_row(const WarpArgs& p, int32_t y, const Block& b) {
    return (uint8_t*)b.shared + map_bytes(p) + ((uintptr_t)row_begin(p.source, y) & 15);
  }

  SE_HD static void land(const WarpArgs& p, int32_t y, int32_t thread, int32_t* map) {
    const int32_t width = p.source.width;
    for (int32_t x0 = thread; x0 < width; x0 += kBatch * kThreads) {
      int32_t a[kBatch], b[kBatch];
      for (int32_t k = 0; k < kBatch; ++k) {
        const int32_t x = min_i32(x0 + k * kThreads, width - 1);
        a[k] = p.law == SE_WARP_SURFACE ? warp_landing(p, y, x) : nearest_target(p, y, x);
        b[k] = p.law == SE_WARP_SURFACE ? warp_landing(p, y, min_i32(x + 1, width - 1)) : 0;
      }
      for (int32_t k = 0; k < kBatch; ++k) {
        const int32_t x = x0 + k * kThreads;
        if (x >= width) break;
        if (p.law == SE_WARP_SURFACE)
          warp_draw(p, x, a[k], b[k], map);
        else if (a[k] >= 0 && a[k] < width)
          block_max(map + a[k], x << 8);
      }
    }
  }

  // row: of the source's pixel 0.
  SE_HD static int32_t pixel(const WarpArgs& p, const uint8_t* row, int32_t m) {
    if (m < 0) return 0;
    const int64_t step = p.source.stride_x;
    const int32_t i = m >> 8, f = m & 255;
    const uint8_t *a = row + i * step, *b = row + min_i32(i + 1, p.source.width - 1) * step;
    uint32_t value = 0;
    for (int32_t c = 0; c < p.source.channels; ++c) {
      const int64_t at = c * p.source.stride_c;
      value |= (uint32_t)((a[at] * (256 - f) + b[at] * f + 128) >> 8) << (8 * c);
    }
    return (int32_t)value;
  }

  SE_HD static void show(const WarpArgs& p, const Block& b, int32_t* map) {
    const int32_t width = p.source.width, y = b.y;
    const int64_t back = p.source.stride_x < 0 ? (int64_t)(width - 1) * p.source.channels : 0;
    const uint8_t* row = staged(p) ? staged_row(p, y, b) + back : p.source.row(y);
    for (int32_t x = b.thread; x < width; x += kThreads) {
      const int32_t m = map[x];
      *p.holes.at(y, x) = m < 0 ? 255 : 0;
      if (p.map.data != nullptr) *p.map.at(y, x) = m;
      if (p.dtype == SE_UINT8)
        map[x] = pixel(p, row, m);
      else
        warp_sample_float(p, y, x, m);
    }
  }

  SE_HD static void phase(int32_t k, const Args& args, const Block& b) {
    const WarpArgs& p = args.views[b.x];
    int32_t* map = (int32_t*)b.shared;
    const int32_t width = p.source.width;
    if (k == 0) {
      if (staged(p))
        block_copy(staged_row(p, b.y, b), row_begin(p.source, b.y), (int64_t)width * p.source.channels, b.thread, kThreads);
      for (int32_t x = b.thread; x < width; x += kThreads) map[x] = -1;
    } else if (k == 1) {
      land(p, b.y, b.thread, map);
    } else if (k == 2) {
      show(p, b, map);
    } else if (p.dtype == SE_UINT8) {
      block_store_row(p.out, b.y, map, b.thread, kThreads);
    }
  }
};

// Whether a view goes four pixels at a time: bytes of 3 or 4 channels by the surface law, a width of whole fours,
// everything side by side in one direction and on addresses of whole words.
inline bool warp_is_packed(const WarpArgs& p) {
  const int32_t width = p.source.width, channels = p.source.channels;
  if (p.dtype != SE_UINT8 || p.disparity_dtype != SE_FLOAT32 || p.law != SE_WARP_SURFACE) return false;
  if (width % 4 != 0 || (channels != 3 && channels != 4)) return false;
  const int64_t step = p.source.stride_x < 0 ? -1 : 1;
  const auto whole = [](const void* data, int64_t stride, uintptr_t unit) {
    return ((uintptr_t)data % unit | (uintptr_t)(stride < 0 ? -stride : stride) % unit) == 0;
  };
  return row_is_packed(p.source) && row_is_packed(p.out) && p.source.stride_x == step * channels &&
         p.out.stride_x == step * channels && p.disparity.stride_x == 4 * step && p.holes.stride_x == step &&
         whole(row_begin(p.source, 0), p.source.stride_y, channels == 4 ? 4 : 1) &&
         whole(row_begin(p.out, 0), p.out.stride_y, channels == 4 ? 16 : 4) &&
         whole(row_begin(p.disparity, 0), p.disparity.stride_y, 16) && whole(row_begin(p.holes, 0), p.holes.stride_y, 4) &&
         (p.map.data == nullptr || (p.map.stride_x == 4 * step && whole(row_begin(p.map, 0), p.map.stride_y, 16)));
}

// A block is a row of a view, a thread's share four neighbouring pixels of it. The map stands in shared memory, and beside
// it the source's row, where that fits.
struct WarpPackedBlocks {
  using Args = WarpPackedArgs;
  static constexpr int32_t kPhases = 3, kThreads = 256;
  static constexpr int64_t kPad = 16;  // what lies before and after the row may be read, and weighs nothing

  SE_HD static int64_t row_bytes(const WarpArgs& p) { return (int64_t)p.source.width * p.source.channels; }
  SE_HD static int64_t shared_bytes(const WarpArgs& p) { return 4 * (int64_t)p.source.width + row_bytes(p) + 15 + 2 * kPad; }
  static bool takes(const WarpArgs& p) { return warp_is_packed(p) && shared_bytes(p) <= kPlainShared; }
  static Grid grid(const Args& p) { return {p.count, p.views[0].source.height, shared_bytes(p.views[0])}; }

  // Where the row's lowest address stands: it keeps its place within 16 bytes.
  SE_HD static uint8_t* staged_row(const WarpArgs& p, int32_t y, const Block& b) {
    return (uint8_t*)b.shared + 4 * (int64_t)p.source.width + kPad + ((uintptr_t)row_begin(p.source, y) & 15);
  }

  // Pixel i of a row and every fourth after it lie at memory group `at`; mirrored rows run the other way.
  template <bool Mirror>
  SE_HD static void land(const WarpArgs& p, const Block& b, int32_t* map) {
    const int32_t width = p.source.width, groups = width / 4, scale = p.scale_q8;
    const float* row = row_begin(p.disparity, b.y);
    for (int32_t g = b.thread; g < groups; g += kThreads) {
      const int32_t at = Mirror ? groups - 1 - g : g, next = min_i32(4 * g + 4, width - 1);
      const Chunk16 four = ((const Chunk16*)row)[at];
      const float after = row[Mirror ? width - 1 - next : next];
      int32_t x[5];
#pragma unroll
      for (int32_t k = 0; k < 5; ++k) {
        const float d = k == 4 ? after : float_of_bits(four.word[Mirror ? 3 - k : k]);
        x[k] = ((4 * g + k) << 8) - ((disparity_q8(d) * scale + 128) >> 8);
      }
#pragma unroll
      for (int32_t k = 0; k < 4; ++k) warp_draw(p, 4 * g + k, x[k], x[k + 1], map);
    }
  }

  // The pixel at position m, channel c in byte c (byte 3 is anything with 3 channels): all even bytes at once, and all odd
  // ones. row: its lowest address.
  template <int C, bool Mirror>
  SE_HD static uint32_t pixel(const uint8_t* row, int32_t width, int32_t m) {
    if (m < 0) return 0;
    int32_t i = m >> 8, f = m & 255;
    if (Mirror) {
      i = width - 2 - i;
      f = 256 - f;
    }
    const uint8_t* at = row + C * i;
    uint32_t a, next;
    if (C == 4) {
      a = ((const Word32*)at)[0];
      next = ((const Word32*)at)[1];
    } else {
      const Word32* words = (const Word32*)((uintptr_t)at & ~(uintptr_t)3);
      const int32_t shift = 8 * (int32_t)((uintptr_t)at & 3);
      const uint32_t w0 = words[0], w1 = words[1], w2 = words[2];
      a = block_shift(w0, w1, shift);
      next = block_shift(w1, w2, shift) << 8 | a >> 24;
    }
    const uint32_t bytes = 0x00ff00ffu, half = 0x00800080u, wa = (uint32_t)(256 - f), wb = (uint32_t)f;
    const uint32_t even = ((a & bytes) * wa + (next & bytes) * wb + half) >> 8 & bytes;
    const uint32_t odd = ((a >> 8 & bytes) * wa + (next >> 8 & bytes) * wb + half) & ~bytes;
    return even | odd;
  }

  template <int C, bool Mirror>
  SE_HD static void show(const WarpArgs& p, const Block& b, const int32_t* map) {
    const int32_t width = p.source.width, groups = width / 4;
    const uint8_t* row = staged_row(p, b.y, b);
    Word32* holes = (Word32*)row_begin(p.holes, b.y);
    uint8_t* out = row_begin(p.out, b.y);
    Chunk16* map_row = p.map.data == nullptr ? nullptr : (Chunk16*)row_begin(p.map, b.y);
    for (int32_t g = b.thread; g < groups; g += kThreads) {
      const int32_t at = Mirror ? groups - 1 - g : g;
      const Chunk16 stored = ((const Chunk16*)map)[g];
      Chunk16 four;  // in memory's order
      uint32_t px[4], empty = 0;
#pragma unroll
      for (int32_t k = 0; k < 4; ++k) {
        four.word[k] = stored.word[Mirror ? 3 - k : k];
        px[k] = pixel<C, Mirror>(row, width, (int32_t)four.word[k]);
        empty |= (four.word[k] >> 31) * 255u << (8 * k);
      }
      holes[at] = empty;
      if (map_row != nullptr) map_row[at] = four;
      if (C == 4) {
        ((Chunk16*)out)[at] = {{px[0], px[1], px[2], px[3]}};
      } else {
        Word32* to = (Word32*)out + 3 * at;
        to[0] = block_pick(px[0], px[1], 0x4210);
        to[1] = block_pick(px[1], px[2], 0x5421);
        to[2] = block_pick(px[2], px[3], 0x6542);
      }
    }
  }

  SE_HD static void phase(int32_t k, const Args& args, const Block& b) {
    const WarpArgs& p = args.views[b.x];
    int32_t* map = (int32_t*)b.shared;
    const bool mirror = p.source.stride_x < 0;
    if (k == 0) {
      block_copy(staged_row(p, b.y, b), row_begin(p.source, b.y), row_bytes(p), b.thread, kThreads);
      for (int32_t g = b.thread; g < p.source.width / 4; g += kThreads) ((Chunk16*)map)[g] = {{~0u, ~0u, ~0u, ~0u}};
    } else if (k == 1) {
      mirror ? land<true>(p, b, map) : land<false>(p, b, map);
    } else if (p.source.channels == 3) {
      mirror ? show<3, true>(p, b, map) : show<3, false>(p, b, map);
    } else {
      mirror ? show<4, true>(p, b, map) : show<4, false>(p, b, map);
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
