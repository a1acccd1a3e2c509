// SPDX-License-Identifier: Apache-2.0
// widen: near objects grow outward, so that the blended rim round them travels with them.
//
// Law (class EXACT). q = disparity_q8(d). m = the greatest q in the (2 r + 1) x (2 r + 1) window, cut at the borders.
// out = (m - q > threshold ? m : q) / 256.
#pragma once
#include "core/block.h"
#include "core/lanes.h"
#include "core/types.h"

namespace se {

struct WidenArgs {
  View<const float> disparity;
  View<float> out;
  int32_t radius, threshold_q8;
};

namespace SE_ISA_NAMESPACE {

#if !defined(__CUDACC__)
// scratch: (2 * radius + 1) rows of width + kLanes int32 (a ring of rows as q), and one more with radius cells before and
// after: the greatest of each column.
inline void widen_rows(const WidenArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  const int32_t width = p.disparity.width, height = p.disparity.height, r = p.radius, ring = 2 * r + 1;
  const int64_t pitch = width + kLanes;
  int32_t* columns = scratch + ring * pitch;
  // Lanes past a row's end are worked on too, and thrown away: of numbers, lest their difference overflow.
  for (int32_t i = 0; i < ring; ++i) {
    for (int32_t k = 0; k < kLanes; ++k) scratch[i * pitch + width + k] = 0;
  }
  int32_t loaded = max_i32(0, y0 - r);
  for (int32_t y = y0; y < y1; ++y) {
    const int32_t first = max_i32(0, y - r), last = min_i32(height - 1, y + r);
    for (; loaded <= last; ++loaded) disparity_row_q8(p.disparity, loaded, scratch + (loaded % ring) * pitch);
    for (int32_t x = 0; x < width; x += kLanes) {
      lanes_fetch(p.disparity, y + r + 1, p.out, y, x);
      Lanes greatest = lanes_load(scratch + (first % ring) * pitch + x);
      // All of the ring, in whatever order, unless some of its rows are not of the window.
      if (last - first == 2 * r) {
        for (int32_t k = 0; k < ring; ++k) greatest = lanes_max(greatest, lanes_load(scratch + k * pitch + x));
      } else {
        for (int32_t i = first; i <= last; ++i) greatest = lanes_max(greatest, lanes_load(scratch + (i % ring) * pitch + x));
      }
      lanes_store(columns + r + x, greatest);
    }
    for (int32_t k = 0; k < r; ++k) columns[k] = -(1 << 30);
    for (int32_t k = r + width; k < 2 * r + width + kLanes; ++k) columns[k] = -(1 << 30);
    const int32_t* now = scratch + (y % ring) * pitch;
    for (int32_t x = 0; x < width; x += kLanes) {
      Lanes greatest = lanes_load(columns + x);
      for (int32_t k = 1; k < ring; ++k) greatest = lanes_max(greatest, lanes_load(columns + x + k));
      const Lanes q = lanes_load(now + x);
      lanes_store_q8(p.out, y, x, min_i32(kLanes, width - x), greatest - q > p.threshold_q8 ? greatest : q);
    }
  }
}
#endif

// A block is a tile of 64 x 32 outputs: the cells round it in shared memory, then the greatest across, then down. Four
// windows in a line have all but three cells at either end in common.
struct WidenBlocks {
  using Args = WidenArgs;
  static constexpr int32_t kPhases = 3, kThreads = 256, kWide = 64, kTall = 32;

  static Grid grid(const Args& p) {
    const int64_t tall = kTall + 2 * p.radius, wide = kWide + 2 * p.radius;
    return {(p.out.width + kWide - 1) / kWide, (p.out.height + kTall - 1) / kTall, 4 * tall * (wide + kWide)};
  }

  // The greatest of 2 r + 1 cells from each of four, `step` apart.
  SE_HD static void greatest(const int32_t* from, int32_t step, int32_t r, int32_t out[4]) {
    if (r == 0) {
      for (int32_t k = 0; k < 4; ++k) out[k] = from[k * step];
      return;
    }
    const int32_t *end = from + 2 * r * step, first = from[0], second = from[step], third = from[2 * step];
    int32_t inner = -(1 << 30);  // of the cells that all four have
    for (const int32_t* at = from + 3 * step; at <= end; at += step) inner = max_i32(inner, *at);
    const int32_t common = max_i32(third, inner), after = end[step], then = end[2 * step];
    out[0] = max_i32(max_i32(first, second), common);
    out[1] = max_i32(max_i32(second, common), after);
    out[2] = max_i32(max_i32(common, after), then);
    out[3] = max_i32(max_i32(inner, after), max_i32(then, end[3 * step]));
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const int32_t r = p.radius, wide = kWide + 2 * r, tall = kTall + 2 * r;
    const int32_t x0 = b.x * kWide, y0 = b.y * kTall, width = p.out.width, height = p.out.height;
    int32_t *cells = (int32_t*)b.shared, *across = cells + tall * wide;
    if (k == 0) {
      for (int32_t dy = b.thread / 32; dy < tall; dy += kThreads / 32) {
        const int32_t y = y0 + dy - r;
        for (int32_t dx = b.thread % 32; dx < wide; dx += 32) {
          const int32_t x = x0 + dx - r;
          const bool inside = y >= 0 && y < height && x >= 0 && x < width;
          cells[dy * wide + dx] = inside ? disparity_q8(*p.disparity.at(y, x)) : -(1 << 30);
        }
      }
    } else if (k == 1) {
      for (int32_t i = b.thread; i < tall * kWide / 4; i += kThreads) {
        const int32_t dy = i / (kWide / 4), dx = 4 * (i % (kWide / 4));
        greatest(cells + dy * wide + dx, 1, r, across + dy * kWide + dx);
      }
    } else {
      for (int32_t i = b.thread; i < kTall * kWide / 4; i += kThreads) {
        const int32_t dy = 4 * (i / kWide), dx = i % kWide;
        if (x0 + dx >= width) continue;
        int32_t most[4];
        greatest(across + dy * kWide + dx, kWide, r, most);
        for (int32_t j = 0; j < 4 && y0 + dy + j < height; ++j) {
          const int32_t q = cells[(dy + j + r) * wide + dx + r], m = most[j];
          *p.out.at(y0 + dy + j, x0 + dx) = (float)(m - q > p.threshold_q8 ? m : q) * 0.00390625f;
        }
      }
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
