// SPDX-License-Identifier: Apache-2.0
// restore: a network's tensor as a picture; the inverse of what resample does to a picture for a network.
//
// Law (class EXACT). source: float32 or float16 [3, H, W]; out: uint8 [H, W, 3|4]. v = fl32(fl32(source * gain[c]) + bias[c]);
// NaN is 0; clamped to 0..255 and rounded half to even. A fourth channel is 255.
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct RestoreArgs {
  View<const float> floats;    // used when its data is not null
  View<const uint16_t> halves; // else this
  View<uint8_t> out;
  float gain[3], bias[3];
};

namespace SE_ISA_NAMESPACE {

SE_HD uint8_t restore_value(float source, float gain, float bias) {
  const float scaled = source * gain;
  const float v = scaled + bias;
  const float low = v > 0.0f ? v : 0.0f;  // NaN is not over 0
  const float clamped = low < 255.0f ? low : 255.0f;
  // Adding and taking away 1.5 * 2^23 rounds half to even.
  return (uint8_t)(int32_t)((clamped + 12582912.0f) - 12582912.0f);
}

SE_HD float restore_source(const RestoreArgs& p, int32_t y, int32_t x, int32_t c) {
  return p.floats.data != nullptr ? *p.floats.at(y, x, c) : half_to_float(*p.halves.at(y, x, c));
}

#if !defined(__CUDACC__)
constexpr int32_t kRestorePiece = 64;

inline void restore_piece(const float* __restrict from, float gain, float bias, uint8_t* __restrict to) {
  for (int32_t x = 0; x < kRestorePiece; ++x) to[x] = restore_value(from[x], gain, bias);
}

inline void restore_rows(const RestoreArgs& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width;
  const bool planes = p.floats.data != nullptr && p.floats.stride_x == 4 && p.out.stride_c == 1 && p.out.stride_x == 3 &&
                      p.out.channels == 3;
  for (int32_t y = y0; y < y1; ++y) {
    if (planes) {
      const float *__restrict r = p.floats.at(y, 0, 0), *__restrict g = p.floats.at(y, 0, 1);
      const float* __restrict b = p.floats.at(y, 0, 2);
      uint8_t* __restrict o = p.out.row(y);
      const float gr = p.gain[0], gg = p.gain[1], gb = p.gain[2], br = p.bias[0], bg = p.bias[1], bb = p.bias[2];
      // Channel by channel into a small buffer first: conversions go side by side, and then only bytes are woven.
      alignas(64) uint8_t red[kRestorePiece], green[kRestorePiece], blue[kRestorePiece];
      int32_t x = 0;
      for (; x + kRestorePiece <= width; x += kRestorePiece) {
        restore_piece(r + x, gr, br, red);
        restore_piece(g + x, gg, bg, green);
        restore_piece(b + x, gb, bb, blue);
        uint8_t* __restrict to = o + 3 * x;
        for (int32_t k = 0; k < kRestorePiece; ++k) {
          to[3 * k] = red[k];
          to[3 * k + 1] = green[k];
          to[3 * k + 2] = blue[k];
        }
      }
      for (; x < width; ++x) {
        o[3 * x] = restore_value(r[x], gr, br);
        o[3 * x + 1] = restore_value(g[x], gg, bg);
        o[3 * x + 2] = restore_value(b[x], gb, bb);
      }
      continue;
    }
    for (int32_t x = 0; x < width; ++x) {
      for (int32_t c = 0; c < 3; ++c) *p.out.at(y, x, c) = restore_value(restore_source(p, y, x, c), p.gain[c], p.bias[c]);
      if (p.out.channels == 4) *p.out.at(y, x, 3) = 255;
    }
  }
}
#endif

SE_HD uint32_t restore_word(const RestoreArgs& p, int32_t y, int32_t x) {
  uint32_t value = 0xff000000u;
  for (int32_t c = 0; c < 3; ++c)
    value |= (uint32_t)restore_value(restore_source(p, y, x, c), p.gain[c], p.bias[c]) << (8 * c);
  return value;
}

using RestoreBlocks = WordBlocks<RestoreArgs, restore_word>;

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
