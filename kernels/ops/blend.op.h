// SPDX-License-Identifier: Apache-2.0
// blend: one picture over another by a mask; and the soft border of such a mask.
//
// Law of feather (class EXACT). The window of a pixel is the square of side 2 radius + 1 round it, cut at the borders: n
// pixels, k of them not 0. out = (255 k + n / 2) / n.
// Law of blend (class EXACT). m = mask[y, x]; out[c] = (base[c] (255 - m) + over[c] m + 127) / 255.
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct FeatherArgs {
  View<const uint8_t> mask;
  View<uint8_t> out;
  int32_t radius;
};

struct BlendArgs {
  View<const uint8_t> base, over, mask;
  View<uint8_t> out;
};

namespace SE_ISA_NAMESPACE {

// Pixels of a window along an axis.
SE_HD int32_t feather_length(int32_t at, int32_t radius, int32_t length) {
  return min_i32(at + radius + 1, length) - max_i32(at - radius, 0);
}

SE_HD uint8_t feather_value(int32_t k, int32_t n) { return (uint8_t)((uint32_t)(255 * k + n / 2) / (uint32_t)n); }

SE_HD uint8_t blend_value(uint32_t base, uint32_t over, uint32_t m) {
  return (uint8_t)((base * (255u - m) + over * m + 127u) / 255u);
}

#if !defined(__CUDACC__)
constexpr int32_t kFeatherPiece = 64;  // columns that are told apart at once: all outside, all inside, or a border

// Adds (sign 1) or takes away (-1) a row's pixels from the columns' counts.
inline void feather_row(const FeatherArgs& p, int32_t y, int32_t sign, uint8_t* __restrict counts) {
  if (y < 0 || y >= p.mask.height) return;
  const int32_t width = p.mask.width;
  const uint8_t* __restrict m = p.mask.row(y);
  if (p.mask.stride_x == 1) {
    for (int32_t x = 0; x < width; ++x) counts[x] = (uint8_t)(counts[x] + (m[x] != 0 ? sign : 0));
  } else {
    for (int32_t x = 0; x < width; ++x) counts[x] = (uint8_t)(counts[x] + (*p.mask.at(y, x) != 0 ? sign : 0));
  }
}

// scratch: `width` bytes, how many of each column's pixels within `radius` rows are not 0: at most 33.
inline void feather_rows(const FeatherArgs& p, int32_t y0, int32_t y1, uint8_t* counts) {
  const int32_t width = p.out.width, height = p.out.height, radius = p.radius;
  __builtin_memset(counts, 0, (size_t)width);
  for (int32_t y = y0 - radius; y < y0 + radius; ++y) feather_row(p, y, 1, counts);
  for (int32_t y = y0; y < y1; ++y) {
    feather_row(p, y + radius, 1, counts);
    if (y > y0) feather_row(p, y - radius - 1, -1, counts);
    const int32_t tall = feather_length(y, radius, height);
    for (int32_t x0 = 0; x0 < width; x0 += kFeatherPiece) {
      const int32_t x1 = min_i32(x0 + kFeatherPiece, width);
      const int32_t left = max_i32(x0 - radius, 0), right = min_i32(x1 + radius, width);
      uint8_t any = 0, all = 255;
      for (int32_t x = left; x < right; ++x) {
        any = (uint8_t)(any | counts[x]);
        all = counts[x] < all ? counts[x] : all;
      }
      if (any == 0 || all == tall) {
        const uint8_t value = any == 0 ? 0 : 255;
        if (p.out.stride_x == 1)
          __builtin_memset(p.out.at(y, x0), value, (size_t)(x1 - x0));
        else
          for (int32_t x = x0; x < x1; ++x) *p.out.at(y, x) = value;
        continue;
      }
      int32_t k = 0;
      for (int32_t x = left; x < min_i32(x0 + radius, width); ++x) k += counts[x];
      for (int32_t x = x0; x < x1; ++x) {
        if (x + radius < width) k += counts[x + radius];
        if (x > x0 && x - radius - 1 >= 0) k -= counts[x - radius - 1];
        *p.out.at(y, x) = feather_value(k, tall * feather_length(x, radius, width));
      }
    }
  }
}

inline void blend_rows(const BlendArgs& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width, channels = p.out.channels;
  const bool packed = row_is_packed(p.base) && p.base.stride_x > 0 && row_is_packed(p.over) && p.over.stride_x > 0 &&
                      row_is_packed(p.out) && p.out.stride_x > 0 && p.mask.stride_x == 1;
  for (int32_t y = y0; y < y1; ++y) {
    if (!packed) {
      for (int32_t x = 0; x < width; ++x)
        for (int32_t c = 0; c < channels; ++c)
          *p.out.at(y, x, c) = blend_value(*p.base.at(y, x, c), *p.over.at(y, x, c), *p.mask.at(y, x));
      continue;
    }
    const uint8_t *__restrict base = p.base.row(y), *__restrict over = p.over.row(y), *__restrict mask = p.mask.row(y);
    uint8_t* __restrict out = p.out.row(y);
    __builtin_memcpy(out, base, (size_t)width * (size_t)channels);
    int32_t x = 0;
    while (x < width) {
      uint64_t eight = 1;
      if (x + 8 <= width) __builtin_memcpy(&eight, mask + x, 8);
      if (eight == 0) {  // most of a picture
        x += 8;
        continue;
      }
      const int32_t end = min_i32(x + 8, width);
      if (eight == ~uint64_t{0}) {
        __builtin_memcpy(out + channels * x, over + channels * x, (size_t)(8 * channels));
      } else {
        for (int32_t i = x; i < end; ++i)
          for (int32_t c = channels * i; c < channels * (i + 1); ++c) out[c] = blend_value(base[c], over[c], mask[i]);
      }
      x = end;
    }
  }
}
#endif

SE_HD uint32_t blend_word(const BlendArgs& p, int32_t y, int32_t x) {
  const uint32_t m = *p.mask.at(y, x);
  uint32_t value = 0;
  for (int32_t c = 0; c < p.out.channels; ++c)
    value |= (uint32_t)blend_value(*p.base.at(y, x, c), *p.over.at(y, x, c), m) << (8 * c);
  return value;
}

struct BlendBlocks : WordBlocks<BlendArgs, blend_word> {};

// A block is a piece of a band of rows: its pixels and those round it as 0 or 1, their sums along rows, then the windows'.
struct FeatherBlocks {
  using Args = FeatherArgs;
  static constexpr int32_t kPhases = 3, kThreads = 256, kRows = 16, kColumns = 128;

  SE_HD static int32_t wide(const Args& p) { return kColumns + 2 * p.radius; }
  SE_HD static int32_t tall(const Args& p) { return kRows + 2 * p.radius; }

  static Grid grid(const Args& p) {
    return {(p.out.width + kColumns - 1) / kColumns, (p.out.height + kRows - 1) / kRows, tall(p) * (wide(p) + kColumns)};
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    uint8_t* pixels = (uint8_t*)b.shared;
    uint8_t* sums = pixels + tall(p) * wide(p);
    const int32_t x0 = b.x * kColumns, y0 = b.y * kRows, window = 2 * p.radius + 1;
    if (k == 0) {
      for (int32_t i = b.thread; i < tall(p) * wide(p); i += kThreads) {
        const int32_t y = y0 - p.radius + i / wide(p), x = x0 - p.radius + i % wide(p);
        const bool inside = y >= 0 && y < p.mask.height && x >= 0 && x < p.mask.width;
        pixels[i] = inside && *p.mask.at(y, x) != 0 ? 1 : 0;
      }
    } else if (k == 1) {
      for (int32_t i = b.thread; i < tall(p) * kColumns; i += kThreads) {
        const uint8_t* from = pixels + i / kColumns * wide(p) + i % kColumns;
        int32_t sum = 0;
        for (int32_t j = 0; j < window; ++j) sum += from[j];
        sums[i] = (uint8_t)sum;
      }
    } else {
      for (int32_t i = b.thread; i < kRows * kColumns; i += kThreads) {
        const int32_t y = y0 + i / kColumns, x = x0 + i % kColumns;
        if (y >= p.out.height || x >= p.out.width) continue;
        int32_t sum = 0;
        for (int32_t j = 0; j < window; ++j) sum += sums[i + j * kColumns];
        const int32_t n = feather_length(y, p.radius, p.out.height) * feather_length(x, p.radius, p.out.width);
        *p.out.at(y, x) = feather_value(sum, n);
      }
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
