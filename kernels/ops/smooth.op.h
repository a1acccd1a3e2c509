// SPDX-License-Identifier: Apache-2.0
// smooth: the course of edges in disparity without the saw's teeth that a pixel-wise choice of sides leaves.
//
// Law (class EXACT). q = disparity_q8(d). The window is the 5 x 5 pixels about a pixel, those beyond a border standing for
// the nearest inside. Where it spans more than the threshold, out = its median / 256; else q / 256.
#pragma once
#include "core/block.h"
#include "core/lanes.h"
#include "core/types.h"

namespace se {

struct SmoothArgs {
  View<const float> disparity;
  View<float> out;
  int32_t threshold_q8;
};

constexpr int32_t kSmoothReach = 2;

namespace SE_ISA_NAMESPACE {

#if !defined(__CUDACC__)
// Of five vectors that lie `step` apart.
SE_HD Lanes smooth_least(const int32_t* at, int64_t step) {
  return lanes_min(lanes_min(lanes_min(lanes_load(at), lanes_load(at + step)),
                               lanes_min(lanes_load(at + 2 * step), lanes_load(at + 3 * step))), lanes_load(at + 4 * step));
}
SE_HD Lanes smooth_most(const int32_t* at, int64_t step) {
  return lanes_max(lanes_max(lanes_max(lanes_load(at), lanes_load(at + step)),
                               lanes_max(lanes_load(at + 2 * step), lanes_load(at + 3 * step))), lanes_load(at + 4 * step));
}

SE_HD void smooth_order(Lanes& a, Lanes& b) {
  const Lanes low = lanes_min(a, b), high = lanes_max(a, b);
  a = low;
  b = high;
}

SE_HD void smooth_sort5(Lanes& a, Lanes& b, Lanes& c, Lanes& d, Lanes& e) {
  smooth_order(a, b);
  smooth_order(d, e);
  smooth_order(c, e);
  smooth_order(c, d);
  smooth_order(b, e);
  smooth_order(a, d);
  smooth_order(a, c);
  smooth_order(b, d);
  smooth_order(b, c);
}

// Leaves the least of n first and the greatest last.
template <int n>
SE_HD void smooth_ends(Lanes* v) {
  for (int32_t k = 0; k < n / 2; ++k) smooth_order(v[k], v[n - 1 - k]);
  for (int32_t k = 1; k < (n + 1) / 2; ++k) smooth_order(v[0], v[k]);
  for (int32_t k = n / 2; k < n - 1; ++k) smooth_order(v[k], v[n - 1]);
}

// The median of 25: in a square with sorted columns and rows six are too small and six too large to be it (the element in
// row i and column j is no less than (i + 1) (j + 1) - 1 others); of the rest the ends are forgotten in pairs.
inline Lanes smooth_median(const int32_t* const rows[5], int32_t x) {
  Lanes m[5][5];  // rank in its column, column
  for (int32_t j = 0; j < 5; ++j) {
    for (int32_t i = 0; i < 5; ++i) m[i][j] = lanes_load(rows[i] + x + j);
    smooth_sort5(m[0][j], m[1][j], m[2][j], m[3][j], m[4][j]);
  }
  for (int32_t i = 0; i < 5; ++i) smooth_sort5(m[i][0], m[i][1], m[i][2], m[i][3], m[i][4]);
  Lanes v[8] = {m[0][3], m[0][4], m[1][2], m[1][3], m[1][4], m[2][1], m[2][2], m[2][3]};
  smooth_ends<8>(v);
  v[0] = m[3][0];
  smooth_ends<7>(v);
  v[0] = m[3][1];
  smooth_ends<6>(v);
  v[0] = m[3][2];
  smooth_ends<5>(v);
  v[0] = m[4][0];
  smooth_ends<4>(v);
  v[0] = m[4][1];
  smooth_ends<3>(v);
  return v[1];
}

// scratch: five rows of width + 2 kLanes + 4 int32 (a ring of rows as q, two cells of the border before them), and
// two more: the least and the greatest of each column.
inline void smooth_rows(const SmoothArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  const int32_t width = p.disparity.width, height = p.disparity.height, threshold = p.threshold_q8;
  const int32_t whole = (width + kLanes - 1) / kLanes * kLanes;
  const int64_t pitch = width + 2 * kLanes + 2 * kSmoothReach;
  int32_t *__restrict least = scratch + 5 * pitch, *__restrict most = least + pitch;
  int32_t loaded = max_i32(0, y0 - kSmoothReach);
  for (int32_t y = y0; y < y1; ++y) {
    for (; loaded <= min_i32(height - 1, y + kSmoothReach); ++loaded) {
      int32_t* row = scratch + (loaded % 5) * pitch;
      disparity_row_q8(p.disparity, loaded, row + kSmoothReach);
      for (int32_t k = 0; k < kSmoothReach; ++k) row[k] = row[kSmoothReach];
      for (int64_t k = kSmoothReach + width; k < pitch; ++k) row[k] = row[kSmoothReach + width - 1];
    }
    const int32_t* rows[5];
    for (int32_t k = 0; k < 5; ++k) rows[k] = scratch + (clamp_i32(y + k - kSmoothReach, 0, height - 1) % 5) * pitch;
    // The ring's order does not matter here, but near a border some of its rows are not of the window.
    const bool inside = y >= kSmoothReach && y + kSmoothReach < height;
    for (int32_t x = 0; x < whole + 2 * kSmoothReach; x += kLanes) {
      lanes_fetch(p.disparity, y + kSmoothReach + 1, p.out, y, x);
      Lanes low = lanes_load(rows[2] + x), high = low;
      if (inside) {
        low = smooth_least(scratch + x, pitch);
        high = smooth_most(scratch + x, pitch);
      } else {
        for (int32_t k = 0; k < 5; ++k) {
          low = lanes_min(low, lanes_load(rows[k] + x));
          high = lanes_max(high, lanes_load(rows[k] + x));
        }
      }
      lanes_store(least + x, low);
      lanes_store(most + x, high);
    }
    for (int32_t x = 0; x < whole; x += kLanes) {
      const Lanes span = smooth_most(most + x, 1) - smooth_least(least + x, 1), below = threshold - span;
      Lanes q = lanes_load(rows[2] + x + kSmoothReach);
      int32_t any = 0;  // negative where a window is an edge's
      for (int32_t k = 0; k < kLanes; ++k) any |= below[k];
      if (any < 0) q = below < 0 ? smooth_median(rows, x) : q;
      lanes_store_q8(p.out, y, x, min_i32(kLanes, width - x), q);
    }
  }
}
#endif

// A block is a tile of 64 x 8 outputs, with the cells round it in shared memory.
struct SmoothBlocks {
  using Args = SmoothArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256, kWide = 64, kTall = 8;
  static constexpr int32_t kRowCells = kWide + 2 * kSmoothReach, kRows = kTall + 2 * kSmoothReach;

  static Grid grid(const Args& p) {
    return {(p.out.width + kWide - 1) / kWide, (p.out.height + kTall - 1) / kTall, 4 * kRows * kRowCells};
  }

  SE_HD static int32_t smoothed(const int32_t* window, int32_t threshold) {
    int32_t lo = window[0], hi = window[0];
    for (int32_t i = 0; i < 25; ++i) {
      const int32_t v = window[(i / 5) * kRowCells + i % 5];
      lo = min_i32(lo, v);
      hi = max_i32(hi, v);
    }
    if (hi - lo <= threshold) return window[2 * kRowCells + 2];
    // The value that no more than twelve are below and no more than twelve above.
    for (int32_t i = 0; i < 25; ++i) {
      const int32_t v = window[(i / 5) * kRowCells + i % 5];
      int32_t below = 0, above = 0;
      for (int32_t k = 0; k < 25; ++k) {
        const int32_t other = window[(k / 5) * kRowCells + k % 5];
        below += other < v ? 1 : 0;
        above += other > v ? 1 : 0;
      }
      if (below <= 12 && above <= 12) return v;
    }
    return 0;  // there is always one
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const int32_t x0 = b.x * kWide, y0 = b.y * kTall, width = p.out.width, height = p.out.height;
    int32_t* cells = (int32_t*)b.shared;
    if (k == 0) {
      for (int32_t i = b.thread; i < kRows * kRowCells; i += kThreads) {
        const int32_t y = clamp_i32(y0 + i / kRowCells - kSmoothReach, 0, height - 1);
        const int32_t x = clamp_i32(x0 + i % kRowCells - kSmoothReach, 0, width - 1);
        cells[i] = disparity_q8(*p.disparity.at(y, x));
      }
      return;
    }
    for (int32_t i = b.thread; i < kTall * kWide; i += kThreads) {
      const int32_t dy = i / kWide, dx = i % kWide;
      if (y0 + dy >= height || x0 + dx >= width) continue;
      *p.out.at(y0 + dy, x0 + dx) = (float)smoothed(cells + dy * kRowCells + dx, p.threshold_q8) * 0.00390625f;
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
