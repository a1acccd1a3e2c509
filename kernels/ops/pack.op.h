// SPDX-License-Identifier: Apache-2.0
// pack: two views in one picture.
//
// Law (class EXACT). left, right: uint8 [H, W, C]. Full side by side: out[y, x] = left[y, x], out[y, W + x] =
// right[y, x]. Full top-bottom: out[y, x] = left[y, x], out[H + y, x] = right[y, x].
#pragma once
#include "core/types.h"

namespace se {

struct PackArgs {
  View<const uint8_t> left, right;
  View<uint8_t> out;
  int32_t layout;
};

namespace SE_ISA_NAMESPACE {

// The value of out[y, x, c].
SE_HD uint8_t pack_pixel(const PackArgs& p, int32_t y, int32_t x, int32_t c) {
  if (p.layout == SE_PACK_SBS) {
    const int32_t w = p.left.width;
    return x < w ? *p.left.at(y, x, c) : *p.right.at(y, x - w, c);
  }
  const int32_t h = p.left.height;
  return y < h ? *p.left.at(y, x, c) : *p.right.at(y - h, x, c);
}

#if !defined(__CUDACC__)
inline void pack_rows(const PackArgs& p, int32_t y0, int32_t y1) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < p.out.width; ++x)
      for (int32_t c = 0; c < p.out.channels; ++c) *p.out.at(y, x, c) = pack_pixel(p, y, x, c);
}
#endif

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
