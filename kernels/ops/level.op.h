// SPDX-License-Identifier: Apache-2.0
// level: disparity at another strength and about another plane.
//
// Law (class EXACT). disparity, out: float32 [H, W]. out = disparity * scale + offset, one multiplication and one addition,
// each rounded by itself. NaN and infinity come through as arithmetic makes them (warp takes them as 0).
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct LevelArgs {
  View<const float> disparity;
  View<float> out;
  float scale, offset;
};

namespace SE_ISA_NAMESPACE {

#if !defined(__CUDACC__)
inline void level_rows(const LevelArgs& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width;
  const float scale = p.scale, offset = p.offset;
  for (int32_t y = y0; y < y1; ++y) {
    if (p.disparity.stride_x == 4 && p.out.stride_x == 4) {
      const float* __restrict from = p.disparity.row(y);
      float* __restrict to = p.out.row(y);
      for (int32_t x = 0; x < width; ++x) to[x] = from[x] * scale + offset;
    } else {
      for (int32_t x = 0; x < width; ++x) *p.out.at(y, x) = *p.disparity.at(y, x) * scale + offset;
    }
  }
}
#endif

// A block is a piece of a row; nothing is shared.
struct LevelBlocks {
  using Args = LevelArgs;
  static constexpr int32_t kPhases = 1, kThreads = 256, kPiece = 4 * kThreads;

  static Grid grid(const Args& p) { return {(p.out.width + kPiece - 1) / kPiece, p.out.height, 0}; }

  SE_HD static void phase(int32_t, const Args& p, const Block& b) {
    const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, p.out.width);
    if (rows_are_aligned(p.disparity, 16) && rows_are_aligned(p.out, 16) && x0 + kPiece <= p.out.width) {
      const int32_t at = x0 / 4 + b.thread;  // four values a thread
      Chunk16 four = ((const Chunk16*)p.disparity.row(b.y))[at];
      for (int32_t k = 0; k < 4; ++k) four.word[k] = bits_of_float(float_of_bits(four.word[k]) * p.scale + p.offset);
      ((Chunk16*)p.out.row(b.y))[at] = four;
      return;
    }
    for (int32_t x = x0 + b.thread; x < x1; x += kThreads)
      *p.out.at(b.y, x) = *p.disparity.at(b.y, x) * p.scale + p.offset;
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
