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

SE_HD int32_t smooth_min(int32_t a, int32_t b) { return min_i32(a, b); }
SE_HD int32_t smooth_max(int32_t a, int32_t b) { return max_i32(a, b); }
#if !defined(__CUDACC__)
SE_HD Lanes smooth_min(Lanes a, Lanes b) { return lanes_min(a, b); }
SE_HD Lanes smooth_max(Lanes a, Lanes b) { return lanes_max(a, b); }
#endif

// Networks over numbers, or over lanes of them.
template <typename V>
SE_HD void smooth_order(V& a, V& b) {
  const V low = smooth_min(a, b), high = smooth_max(a, b);
  a = low;
  b = high;
}

template <typename V>
SE_HD void smooth_sort5(V& a, V& b, V& c, V& d, V& e) {
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
template <int n, typename V>
SE_HD void smooth_ends(V* v) {
#pragma unroll
  for (int32_t k = 0; k < n / 2; ++k) smooth_order(v[k], v[n - 1 - k]);
#pragma unroll
  for (int32_t k = 1; k < (n + 1) / 2; ++k) smooth_order(v[0], v[k]);
#pragma unroll
  for (int32_t k = n / 2; k < n - 1; ++k) smooth_order(v[k], v[n - 1]);
}

// The median of 25, m[rank in its column][column]: in a square with sorted columns and rows six are too small and six too
// large to be it (the element in row i and column j is no less than (i + 1) (j + 1) - 1 others); of the rest the ends are
// forgotten in pairs.
template <typename V>
SE_HD V smooth_median(V m[5][5]) {
#pragma unroll
  for (int32_t i = 0; i < 5; ++i) smooth_sort5(m[i][0], m[i][1], m[i][2], m[i][3], m[i][4]);
  V v[8] = {m[0][3], m[0][4], m[1][2], m[1][3], m[1][4], m[2][1], m[2][2], m[2][3]};
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

inline Lanes smooth_median_at(const int32_t* const rows[5], int32_t x) {
  Lanes m[5][5];
  for (int32_t j = 0; j < 5; ++j) {
    for (int32_t i = 0; i < 5; ++i) m[i][j] = lanes_load(rows[i] + x + j);
    smooth_sort5(m[0][j], m[1][j], m[2][j], m[3][j], m[4][j]);
  }
  return smooth_median(m);
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
      if (any < 0) q = below < 0 ? smooth_median_at(rows, x) : q;
      lanes_store_q8(p.out, y, x, min_i32(kLanes, width - x), q);
    }
  }
}
#endif

// A block is a tile of 64 x 16 outputs with the cells round it in shared memory; a thread's share are four neighbours of a
// row, whose windows are eight columns of five.
struct SmoothBlocks {
  using Args = SmoothArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256, kWide = 64, kTall = 16;
  static constexpr int32_t kRowCells = kWide + 2 * kSmoothReach, kRows = kTall + 2 * kSmoothReach;

  static Grid grid(const Args& p) {
    return {(p.out.width + kWide - 1) / kWide, (p.out.height + kTall - 1) / kTall, 4 * kRows * kRowCells};
  }

  // The four outputs whose windows begin at a cell, a multiple of four.
  SE_HD static void smoothed(const int32_t* cells, int32_t threshold, int32_t out[4]) {
    int32_t m[5][8], low[8], high[8];
#pragma unroll
    for (int32_t i = 0; i < 5; ++i) {
      const Chunk16* at = (const Chunk16*)(cells + i * kRowCells);
      const Chunk16 first = at[0], second = at[1];
#pragma unroll
      for (int32_t j = 0; j < 4; ++j) {
        m[i][j] = (int32_t)first.word[j];
        m[i][4 + j] = (int32_t)second.word[j];
      }
    }
    bool any = false;
#pragma unroll
    for (int32_t j = 0; j < 8; ++j) {
      low[j] = min_i32(min_i32(min_i32(m[0][j], m[1][j]), min_i32(m[2][j], m[3][j])), m[4][j]);
      high[j] = max_i32(max_i32(max_i32(m[0][j], m[1][j]), max_i32(m[2][j], m[3][j])), m[4][j]);
    }
    bool torn[4];
#pragma unroll
    for (int32_t k = 0; k < 4; ++k) {
      const int32_t lo = min_i32(min_i32(min_i32(low[k], low[k + 1]), min_i32(low[k + 2], low[k + 3])), low[k + 4]);
      const int32_t hi = max_i32(max_i32(max_i32(high[k], high[k + 1]), max_i32(high[k + 2], high[k + 3])), high[k + 4]);
      torn[k] = hi - lo > threshold;
      any = any || torn[k];
      out[k] = m[2][k + 2];
    }
    if (!any) return;
#pragma unroll
    for (int32_t j = 0; j < 8; ++j) smooth_sort5(m[0][j], m[1][j], m[2][j], m[3][j], m[4][j]);
#pragma unroll
    for (int32_t k = 0; k < 4; ++k) {
      if (!torn[k]) continue;
      int32_t window[5][5];
#pragma unroll
      for (int32_t i = 0; i < 25; ++i) window[i / 5][i % 5] = m[i / 5][k + i % 5];
      out[k] = smooth_median(window);
    }
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
    const int32_t dy = b.thread / (kWide / 4), dx = 4 * (b.thread % (kWide / 4)), y = y0 + dy, x = x0 + dx;
    if (y >= height || x >= width) return;
    int32_t out[4];
    smoothed(cells + dy * kRowCells + dx, p.threshold_q8, out);
    if (rows_are_aligned(p.out, 16) && x + 4 <= width) {
      Chunk16 four;
      for (int32_t i = 0; i < 4; ++i) four.word[i] = bits_of_float((float)out[i] * 0.00390625f);
      ((Chunk16*)p.out.row(y))[x / 4] = four;
      return;
    }
    for (int32_t i = 0; i < 4 && x + i < width; ++i) *p.out.at(y, x + i) = (float)out[i] * 0.00390625f;
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
