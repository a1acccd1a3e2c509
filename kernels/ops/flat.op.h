// SPDX-License-Identifier: Apache-2.0
// keep and lay: what lies flat over a finished view. Of sessions alone (session/canvas.h), which cut the rectangles.
//
// Law (class EXACT). keep: to[y][x] = from[y][x] where cover[y][x] is not 0; uint8 [h, w, C], cover uint8 [h, w].
// lay: to[c] = blend (blend.op.h) of to[c] and over[c] by over[3], c < 3; over: uint8 [h, w, 4]; to: uint8
// [h, w, 3|4], whose alpha stays. No rectangle, no pixels: h and w may be 0.
#pragma once
#include "core/block.h"
#include "core/types.h"
#include "ops/blend.op.h"

namespace se {

struct KeepArgs {
  View<const uint8_t> from, cover;
  View<uint8_t> to;
};

struct LayArgs {
  View<const uint8_t> over;
  View<uint8_t> to;
};

namespace SE_ISA_NAMESPACE {

SE_HD void keep_pixel(const KeepArgs& p, int32_t y, int32_t x) {
  const uint8_t* from = p.from.at(y, x);
  uint8_t* to = p.to.at(y, x);
  for (int32_t c = 0; c < p.to.channels; ++c) to[c] = from[c];
}

SE_HD void lay_pixel(const LayArgs& p, int32_t y, int32_t x) {
  const uint8_t* over = p.over.at(y, x);
  uint8_t* to = p.to.at(y, x);
  for (int32_t c = 0; c < 3; ++c) to[c] = blend_value(to[c], over[c], over[3]);
}

#if !defined(__CUDACC__)
// `given` is copied: the compiler would read its fields again after each byte that is written.
inline void keep_rows(const KeepArgs& given, int32_t y0, int32_t y1) {
  const KeepArgs p = given;
  const int32_t width = p.to.width;
  for (int32_t y = y0; y < y1; ++y) {
    const uint8_t* cover = p.cover.row(y);
    for (int32_t x = 0; x < width; ++x) {
      uint64_t eight = 1;
      if (x + 8 <= width) __builtin_memcpy(&eight, cover + x, 8);
      if (eight == 0)
        x += 7;
      else if (cover[x] != 0)
        keep_pixel(p, y, x);
    }
  }
}

inline void lay_rows(const LayArgs& given, int32_t y0, int32_t y1) {
  const LayArgs p = given;
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < p.to.width; ++x) lay_pixel(p, y, x);
}
#endif

// A block is a piece of a row; where there are no pixels, one block finds nothing to do.
struct KeepBlocks {
  using Args = KeepArgs;
  static constexpr int32_t kPhases = 1, kThreads = 256, kPiece = 1024;

  static Grid grid(const Args& p) { return {max_i32(1, (p.to.width + kPiece - 1) / kPiece), max_i32(1, p.to.height), 0}; }

  SE_HD static void phase(int32_t, const Args& p, const Block& b) {
    if (b.y >= p.to.height) return;
    const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, p.to.width);
    for (int32_t x = x0 + b.thread; x < x1; x += kThreads)
      if (*p.cover.at(b.y, x) != 0) keep_pixel(p, b.y, x);
  }
};

struct LayBlocks {
  using Args = LayArgs;
  static constexpr int32_t kPhases = 1, kThreads = 256;

  static Grid grid(const Args& p) { return {max_i32(1, (p.to.width + kThreads - 1) / kThreads), max_i32(1, p.to.height), 0}; }

  SE_HD static void phase(int32_t, const Args& p, const Block& b) {
    const int32_t x = b.x * kThreads + b.thread;
    if (b.y < p.to.height && x < p.to.width) lay_pixel(p, b.y, x);
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
