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
inline void grey_rows(const GreyArgs& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width, channels = p.out.channels;
  for (int32_t y = y0; y < y1; ++y) {
    for (int32_t x = 0; x < width; ++x) {
      const uint32_t word = grey_word(p, y, x);
      for (int32_t c = 0; c < channels; ++c) *p.out.at(y, x, c) = (uint8_t)(word >> (8 * c));
    }
  }
}
#endif

using GreyBlocks = WordBlocks<GreyArgs, grey_word>;

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
