// SPDX-License-Identifier: Apache-2.0
// pack: two views in one picture.
//
// Law (class EXACT). left, right: uint8 [H, W, C].
//   full side by side   out[y, x] = left[y, x], out[y, W + x] = right[y, x]
//   full top-bottom     out[y, x] = left[y, x], out[H + y, x] = right[y, x]
//   rows, columns, checkerboard: of left's size; the right view's pixel where y, x or x + y is odd, else the left's.
//   half side by side   W even: out[y, x] = (v[y, 2 u] + v[y, 2 u + 1] + 1) >> 1, v = left and u = x under W / 2, else
//                       v = right and u = x - W / 2
//   half top-bottom     the same down the columns, H even
#pragma once
#include "core/block.h"
#include "core/types.h"
#include "ops/resample.op.h"

namespace se {

struct PackArgs {
  View<const uint8_t> left, right;
  View<uint8_t> out;
  int32_t layout;
};

namespace SE_ISA_NAMESPACE {

// The value of out[y, x, c].
SE_HD uint8_t pack_pixel(const PackArgs& p, int32_t y, int32_t x, int32_t c) {
  const int32_t w = p.left.width, h = p.left.height;
  switch (p.layout) {
    case SE_PACK_SBS: return x < w ? *p.left.at(y, x, c) : *p.right.at(y, x - w, c);
    case SE_PACK_TB: return y < h ? *p.left.at(y, x, c) : *p.right.at(y - h, x, c);
    case SE_PACK_ROWS: return (y & 1) == 0 ? *p.left.at(y, x, c) : *p.right.at(y, x, c);
    case SE_PACK_COLUMNS: return (x & 1) == 0 ? *p.left.at(y, x, c) : *p.right.at(y, x, c);
    case SE_PACK_HALF_SBS: {
      const View<const uint8_t>& from = x < w / 2 ? p.left : p.right;
      const int32_t u = 2 * (x < w / 2 ? x : x - w / 2);
      return (uint8_t)((*from.at(y, u, c) + *from.at(y, u + 1, c) + 1) >> 1);
    }
    case SE_PACK_HALF_TB: {
      const View<const uint8_t>& from = y < h / 2 ? p.left : p.right;
      const int32_t u = 2 * (y < h / 2 ? y : y - h / 2);
      return (uint8_t)((*from.at(u, x, c) + *from.at(u + 1, x, c) + 1) >> 1);
    }
    default: return ((x + y) & 1) == 0 ? *p.left.at(y, x, c) : *p.right.at(y, x, c);
  }
}

#if !defined(__CUDACC__)
inline void pack_copy(const View<const uint8_t>& from, int32_t y, const View<uint8_t>& to, int32_t ty, int32_t tx) {
  const int32_t channels = from.channels;
  if (from.stride_c == 1 && to.stride_c == 1 && from.stride_x == channels && to.stride_x == channels) {
    __builtin_memcpy(to.at(ty, tx), from.row(y), (size_t)from.width * (size_t)channels);
    return;
  }
  for (int32_t x = 0; x < from.width; ++x)
    for (int32_t c = 0; c < channels; ++c) *to.at(ty, tx + x, c) = *from.at(y, x, c);
}

// A row of bytes from both views: second's where the mask is set. The mask repeats after kPackPeriod bytes, a multiple
// of two pixels of any number of channels and of every vector's width.
constexpr int32_t kPackPeriod = 192;
inline void pack_masked(const uint8_t* __restrict first, const uint8_t* __restrict second, uint8_t* __restrict out,
                        int64_t bytes, const uint8_t* __restrict mask) {
  int64_t i = 0;
  for (; i + kPackPeriod <= bytes; i += kPackPeriod)
    for (int32_t k = 0; k < kPackPeriod; ++k)
      out[i + k] = (uint8_t)((first[i + k] & ~mask[k]) | (second[i + k] & mask[k]));
  for (int32_t k = 0; i < bytes; ++i, ++k) out[i] = (uint8_t)((first[i] & ~mask[k]) | (second[i] & mask[k]));
}

inline void pack_rows(const PackArgs& p, int32_t y0, int32_t y1) {
  const int32_t channels = p.out.channels;
  const bool packed = p.left.stride_c == 1 && p.right.stride_c == 1 && p.out.stride_c == 1 &&
                      p.left.stride_x == channels && p.right.stride_x == channels && p.out.stride_x == channels;
  const int32_t h = p.left.height;
  alignas(64) uint8_t odd[kPackPeriod];
  for (int32_t k = 0; k < kPackPeriod; ++k) odd[k] = (k / channels & 1) != 0 ? 255 : 0;
  for (int32_t y = y0; y < y1; ++y) {
    if (p.layout == SE_PACK_SBS) {
      pack_copy(p.left, y, p.out, y, 0);
      pack_copy(p.right, y, p.out, y, p.left.width);
    } else if (p.layout == SE_PACK_TB) {
      y < h ? pack_copy(p.left, y, p.out, y, 0) : pack_copy(p.right, y - h, p.out, y, 0);
    } else if (p.layout == SE_PACK_ROWS) {
      pack_copy((y & 1) == 0 ? p.left : p.right, y, p.out, y, 0);
    } else if (packed && p.layout == SE_PACK_HALF_SBS) {
      resample_row_of_pairs(p.left.row(y), p.out.width, channels, p.out.row(y));
      resample_row_of_pairs(p.right.row(y), p.out.width, channels, p.out.at(y, p.out.width / 2));
    } else if (packed && p.layout == SE_PACK_HALF_TB) {
      const View<const uint8_t>& from = y < h / 2 ? p.left : p.right;
      const int32_t u = 2 * (y < h / 2 ? y : y - h / 2);
      resample_means(from.row(u), from.row(u + 1), p.out.row(y), p.out.width * channels);
    } else if (packed) {
      const bool turned = p.layout == SE_PACK_CHECKERBOARD && (y & 1) != 0;
      const View<const uint8_t>&first = turned ? p.right : p.left, &second = turned ? p.left : p.right;
      pack_masked(first.row(y), second.row(y), p.out.row(y), (int64_t)p.out.width * channels, odd);
    } else {
      for (int32_t x = 0; x < p.out.width; ++x)
        for (int32_t c = 0; c < channels; ++c) *p.out.at(y, x, c) = pack_pixel(p, y, x, c);
    }
  }
}
#endif

// A block is a piece of an output row, gathered in shared memory and written as words; or, where rows go over as they
// are, a whole row that is copied.
struct PackBlocks {
  using Args = PackArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256, kPiece = 1024;

  SE_HD static bool copies(const Args& p) {
    return p.layout <= SE_PACK_ROWS && p.out.stride_c == 1 && p.out.stride_x == p.out.channels &&
           p.left.stride_c == 1 && p.left.stride_x == p.out.channels && p.right.stride_c == 1 &&
           p.right.stride_x == p.out.channels;
  }

  static Grid grid(const Args& p) {
    if (copies(p)) return {1, p.out.height, 0};
    return {(p.out.width + kPiece - 1) / kPiece, p.out.height, 4 * kPiece};
  }

  // Whether means of neighbours are made of whole words.
  SE_HD static bool halves(const Args& p) {
    const int32_t channels = p.out.channels;
    return (p.layout == SE_PACK_HALF_SBS || p.layout == SE_PACK_HALF_TB) && (channels == 3 || channels == 4) &&
           p.left.width % 8 == 0 && rows_are_aligned(p.left, 4) && rows_are_aligned(p.right, 4) && rows_are_aligned(p.out, 4);
  }

  // Of eight pixels side by side the means of neighbours.
  template <int C>
  SE_HD static void halve(const Word32* w, Word32* to) {
    if (C == 4) {
      for (int32_t k = 0; k < 4; ++k) to[k] = block_means(w[2 * k], w[2 * k + 1]);
      return;
    }
    const uint32_t a = w[0], b = w[1], c = w[2], d = w[3], e = w[4], f = w[5];
    to[0] = block_means(block_pick(a, b, 0x6210), block_pick(block_pick(a, b, 0x0543), c, 0x5210));
    to[1] = block_means(block_pick(block_pick(b, c, 0x0043), d, 0x5410), block_pick(block_pick(c, d, 0x0732), e, 0x4210));
    to[2] = block_means(block_pick(block_pick(d, e, 0x0762), f, 0x4210), block_pick(e, f, 0x7651));
  }

  SE_HD static void halve_piece(const Args& p, const Block& b, int32_t x0, int32_t x1) {
    const int32_t channels = p.out.channels, w = p.left.width, h = p.left.height, y = b.y;
    if (p.layout == SE_PACK_HALF_TB) {
      const View<const uint8_t>& from = y < h / 2 ? p.left : p.right;
      const int32_t u = 2 * (y < h / 2 ? y : y - h / 2);
      const Word32 *over = (const Word32*)from.row(u), *under = (const Word32*)from.row(u + 1);
      Word32* to = (Word32*)p.out.row(y);
      for (int32_t i = x0 * channels / 4 + b.thread; i < x1 * channels / 4; i += kThreads) to[i] = block_means(over[i], under[i]);
      return;
    }
    for (int32_t x = x0 + 4 * b.thread; x < x1; x += 4 * kThreads) {
      const Word32* from = (const Word32*)(x < w / 2 ? p.left.row(y) + 2 * x * channels : p.right.row(y) + 2 * (x - w / 2) * channels);
      Word32* to = (Word32*)(p.out.row(y) + x * channels);
      channels == 3 ? halve<3>(from, to) : halve<4>(from, to);
    }
  }

  SE_HD static void copy_row(const Args& p, const Block& b) {
    const int32_t y = b.y, h = p.left.height;
    const int64_t bytes = (int64_t)p.left.width * p.out.channels;
    if (p.layout == SE_PACK_SBS) {
      block_copy(p.out.row(y), p.left.row(y), bytes, b.thread, kThreads);
      block_copy(p.out.row(y) + bytes, p.right.row(y), bytes, b.thread, kThreads);
    } else if (p.layout == SE_PACK_TB) {
      block_copy(p.out.row(y), y < h ? p.left.row(y) : p.right.row(y - h), bytes, b.thread, kThreads);
    } else {
      block_copy(p.out.row(y), (y & 1) == 0 ? p.left.row(y) : p.right.row(y), bytes, b.thread, kThreads);
    }
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    if (copies(p)) {
      if (k == 0) copy_row(p, b);
      return;
    }
    int32_t* pixels = (int32_t*)b.shared;
    const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, p.out.width);
    if (halves(p)) {
      if (k == 0) halve_piece(p, b, x0, x1);
      return;
    }
    if (k == 1) return block_store_row(columns_of(p.out, x0, kPiece), b.y, pixels, b.thread, kThreads);
    for (int32_t x = x0 + b.thread; x < x1; x += kThreads) {
      uint32_t value = 0;
      for (int32_t c = 0; c < p.out.channels; ++c) value |= (uint32_t)pack_pixel(p, b.y, x, c) << (8 * c);
      pixels[x - x0] = (int32_t)value;
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
