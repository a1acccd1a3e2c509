// SPDX-License-Identifier: Apache-2.0
// nv12: a decoder's or camera's NV12 picture as RGB or RGBA.
//
// Law (class EXACT). luma: uint8 [H, W]. chroma: uint8 [ceil(H / 2), ceil(W / 2), 2], (u, v) of 2 x 2 pixels, which all
// four take as it is. With l = luma - (full ? 0 : 16), u and v less 128, and the matrix in 1/65536:
//   r = clamp((m0 l + m1 v + 32768) >> 16), g = clamp((m0 l + m2 u + m3 v + 32768) >> 16), b = clamp((m0 l + m4 u + 32768) >> 16)
// clamped to 0..255; a fourth channel is 255.
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct Nv12Args {
  View<const uint8_t> luma, chroma;
  View<uint8_t> out;
  int32_t matrix[5];
  int32_t black;  // luma of black
};

namespace SE_ISA_NAMESPACE {

// Bytes r, g, b and 255, from the lowest on.
SE_HD uint32_t nv12_pixel(const Nv12Args& p, int32_t luma, int32_t u, int32_t v) {
  const int32_t l = p.matrix[0] * (luma - p.black) + 32768, du = u - 128, dv = v - 128;
  const int32_t r = clamp_i32((l + p.matrix[1] * dv) >> 16, 0, 255);
  const int32_t g = clamp_i32((l + p.matrix[2] * du + p.matrix[3] * dv) >> 16, 0, 255);
  const int32_t b = clamp_i32((l + p.matrix[4] * du) >> 16, 0, 255);
  return (uint32_t)r | (uint32_t)g << 8 | (uint32_t)b << 16 | 0xff000000u;
}

SE_HD uint32_t nv12_at(const Nv12Args& p, int32_t y, int32_t x) {
  const uint8_t* uv = p.chroma.at(y >> 1, x >> 1);
  return nv12_pixel(p, *p.luma.at(y, x), uv[0], uv[p.chroma.stride_c]);
}

#if !defined(__CUDACC__)
inline void nv12_rows(const Nv12Args& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width, channels = p.out.channels;
  const bool packed = p.luma.stride_x == 1 && p.chroma.stride_x == 2 && p.chroma.stride_c == 1 && p.out.stride_c == 1 &&
                      p.out.stride_x == 3 && channels == 3;
  const int32_t m0 = p.matrix[0], m1 = p.matrix[1], m2 = p.matrix[2], m3 = p.matrix[3], m4 = p.matrix[4], black = p.black;
  for (int32_t y = y0; y < y1; ++y) {
    if (packed) {
      const uint8_t *__restrict l = p.luma.row(y), *__restrict uv = p.chroma.row(y >> 1);
      uint8_t* __restrict o = p.out.row(y);
      for (int32_t x = 0; x < width; ++x) {
        const int32_t s = m0 * (l[x] - black) + 32768, du = uv[x & ~1] - 128, dv = uv[x | 1] - 128;
        o[3 * x] = (uint8_t)clamp_i32((s + m1 * dv) >> 16, 0, 255);
        o[3 * x + 1] = (uint8_t)clamp_i32((s + m2 * du + m3 * dv) >> 16, 0, 255);
        o[3 * x + 2] = (uint8_t)clamp_i32((s + m4 * du) >> 16, 0, 255);
      }
      continue;
    }
    for (int32_t x = 0; x < width; ++x) {
      const uint32_t pixel = nv12_at(p, y, x);
      for (int32_t c = 0; c < channels; ++c) *p.out.at(y, x, c) = (uint8_t)(pixel >> (8 * c));
    }
  }
}
#endif

using Nv12Blocks = WordBlocks<Nv12Args, nv12_at>;

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
