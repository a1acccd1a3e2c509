// SPDX-License-Identifier: Apache-2.0
// anaglyph: both views in one picture, told apart by colour.
//
// Law (class EXACT). left, right: uint8 [H, W, 3]. out[c] = clamp((sum_k m[c][k] left[k] + m[c][3 + k] right[k] + 2048)
// >> 12, 0, 255), m the matrix in 1/4096, applied to sRGB values as they are (as Dubois's published matrices are used
// by every common viewer).
#pragma once
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
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < p.out.width; ++x)
      for (int32_t c = 0; c < 3; ++c)
        *p.out.at(y, x, c) = anaglyph_channel(p.matrix[c], p.left.at(y, x), p.left.stride_c, p.right.at(y, x), p.right.stride_c);
}
#endif

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
