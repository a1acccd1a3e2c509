// SPDX-License-Identifier: Apache-2.0
// grey: a float plane as a grey picture. Of sessions alone (session/canvas.h).
//
// Law (class EXACT). plane: float32 [H, W], finite, or none; out: uint8 [H, W, 3|4]. The first three channels are plane scale +
// 0.5, each step rounded, clamped to 0..255 and rounded down; 0 without a plane. A fourth is the picture's.
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct GreyArgs {
  View<const float> plane;      // none where its data is null
  View<const uint8_t> picture;  // of out's channels
  View<uint8_t> out;
  float scale;
};

namespace SE_ISA_NAMESPACE {

SE_HD uint32_t grey_value(float plane, float scale) {
  const float v = plane * scale + 0.5f, low = v < 0.0f ? 0.0f : v;
  return (uint32_t)(int32_t)(low > 255.0f ? 255.0f : low);
}

SE_HD uint32_t grey_word(const GreyArgs& p, int32_t y, int32_t x) {
  const uint32_t grey = p.plane.data != nullptr ? grey_value(*p.plane.at(y, x), p.scale) : 0;
  return grey * 0x010101u | (p.out.channels == 4 ? (uint32_t)*p.picture.at(y, x, 3) << 24 : 0);
}

#if !defined(__CUDACC__)
constexpr int32_t kGreyPiece = 64;

// A piece of packed pixels: the values first, side by side, and then bytes are woven.
template <int C>
inline void grey_piece(const float* __restrict plane, const uint8_t* __restrict picture, float scale, int32_t n, uint8_t* __restrict to) {
  alignas(64) uint8_t grey[kGreyPiece];
  for (int32_t k = 0; k < n; ++k) grey[k] = plane != nullptr ? (uint8_t)grey_value(plane[k], scale) : 0;
  for (int32_t k = 0; k < n; ++k) {
    for (int32_t c = 0; c < 3; ++c) to[C * k + c] = grey[k];
    if (C == 4) to[C * k + 3] = picture[C * k + 3];
  }
}

inline void grey_rows(const GreyArgs& p, int32_t y0, int32_t y1) {  // of packed rows
  const int32_t width = p.out.width, channels = p.out.channels;
  for (int32_t y = y0; y < y1; ++y) {
    const float* plane = p.plane.data != nullptr ? p.plane.row(y) : nullptr;
    const uint8_t* picture = p.picture.row(y);
    uint8_t* to = p.out.row(y);
    for (int32_t x = 0; x < width; x += kGreyPiece) {
      const int32_t n = min_i32(kGreyPiece, width - x);
      const float* from = plane != nullptr ? plane + x : nullptr;
      channels == 3 ? grey_piece<3>(from, picture + 3 * x, p.scale, n, to + 3 * x)
                    : grey_piece<4>(from, picture + 4 * x, p.scale, n, to + 4 * x);
    }
  }
}
#endif

using GreyBlocks = WordBlocks<GreyArgs, grey_word>;

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
