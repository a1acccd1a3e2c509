// SPDX-License-Identifier: Apache-2.0
// anaglyph: both views in one picture, told apart by colour.
//
// Law (class EXACT). left, right: uint8 [H, W, 3]. out[c] = clamp((sum_k m[c][k] left[k] + m[c][3 + k] right[k] + 2048)
// >> 12, 0, 255), m the matrix in 1/4096, applied to sRGB values as they are (as Dubois's published matrices are used
// by every common viewer).
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct AnaglyphArgs {
  View<const uint8_t> left, right;
  View<uint8_t> out;
  int32_t matrix[3][6];
};

namespace SE_ISA_NAMESPACE {

SE_HD uint8_t anaglyph_channel(const int32_t* m, const uint8_t* l, int64_t ls, const uint8_t* r, int64_t rs) {
  const int32_t sum = m[0] * l[0] + m[1] * l[ls] + m[2] * l[2 * ls] + m[3] * r[0] + m[4] * r[rs] + m[5] * r[2 * rs];
  return (uint8_t)clamp_i32((sum + 2048) >> 12, 0, 255);
}

#if !defined(__CUDACC__)
inline void anaglyph_rows(const AnaglyphArgs& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width;
  const bool packed = p.left.stride_c == 1 && p.left.stride_x == 3 && p.right.stride_c == 1 &&
                      p.right.stride_x == 3 && p.out.stride_c == 1 && p.out.stride_x == 3;
  const int32_t* __restrict m = &p.matrix[0][0];
  for (int32_t y = y0; y < y1; ++y) {
    if (packed) {
      const uint8_t *__restrict l = p.left.row(y), *__restrict r = p.right.row(y);
      uint8_t* __restrict o = p.out.row(y);
      for (int32_t x = 0; x < width; ++x) {
        const int32_t l0 = l[3 * x], l1 = l[3 * x + 1], l2 = l[3 * x + 2];
        const int32_t r0 = r[3 * x], r1 = r[3 * x + 1], r2 = r[3 * x + 2];
        const int32_t a = m[0] * l0 + m[1] * l1 + m[2] * l2 + m[3] * r0 + m[4] * r1 + m[5] * r2 + 2048;
        const int32_t b = m[6] * l0 + m[7] * l1 + m[8] * l2 + m[9] * r0 + m[10] * r1 + m[11] * r2 + 2048;
        const int32_t c = m[12] * l0 + m[13] * l1 + m[14] * l2 + m[15] * r0 + m[16] * r1 + m[17] * r2 + 2048;
        o[3 * x] = (uint8_t)clamp_i32(a >> 12, 0, 255);
        o[3 * x + 1] = (uint8_t)clamp_i32(b >> 12, 0, 255);
        o[3 * x + 2] = (uint8_t)clamp_i32(c >> 12, 0, 255);
      }
      continue;
    }
    for (int32_t x = 0; x < width; ++x)
      for (int32_t c = 0; c < 3; ++c)
        *p.out.at(y, x, c) =
            anaglyph_channel(p.matrix[c], p.left.at(y, x), p.left.stride_c, p.right.at(y, x), p.right.stride_c);
  }
}
#endif

// A block is a piece of a row, whose pixels are gathered in shared memory and written as words.
struct AnaglyphBlocks {
  using Args = AnaglyphArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256, kPiece = 1024;

  static Grid grid(const Args& p) { return {(p.out.width + kPiece - 1) / kPiece, p.out.height, 4 * kPiece}; }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    int32_t* pixels = (int32_t*)b.shared;
    const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, p.out.width);
    if (k == 1) return block_store_row(columns_of(p.out, x0, kPiece), b.y, pixels, b.thread, kThreads);
    for (int32_t x = x0 + b.thread; x < x1; x += kThreads) {
      const uint8_t *l = p.left.at(b.y, x), *r = p.right.at(b.y, x);
      uint32_t value = 0;
      for (int32_t c = 0; c < 3; ++c)
        value |= (uint32_t)anaglyph_channel(p.matrix[c], l, p.left.stride_c, r, p.right.stride_c) << (8 * c);
      pixels[x - x0] = (int32_t)value;
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
