// SPDX-License-Identifier: Apache-2.0
// mask: where a model should paint, made from a warp's holes; and its reduction to cells.
//
// Law of inpaint_mask (class EXACT), for the right view. Windows are squares of side 2 n + 1, cut at the borders.
//   A  holes != 0
//   B  closed: the union over windows of `close`, then the intersection over the same windows (pinholes are holes)
//   C  opened: the intersection over windows of `speck`, then the union (what is thinner than 2 speck + 1 goes)
//   Each row's runs [l, r) of C: q(x) = map[x] - 256 x; R is the first x >= r with map >= 0, L the last x < l with
//   map >= 0, where there are such. The far side is the right one when R exists and (L does not or q(R) <= q(L)), else
//   the left one. The run grows by `grow_far` pixels on the far side and by `grow_near` on the other, cut at the borders. Its
//   kind is frame edge (128) when l = 0 or r = W, else disocclusion (255).
//   out[y, x] = the greatest kind within `tall` rows of y, 0 for none.
// Law of mask_cells: cell (i, j) covers rows [i s, i s + s) and columns [j s, j s + s), cut at the borders, n pixels, k
// of them not 0. any: 255 when k > 0. area: (255 k + n / 2) / n.
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct MaskArgs {
  View<const uint8_t> holes;
  View<const int32_t> map;
  View<uint8_t> out;
  int32_t close, speck, grow_far, grow_near, tall;
};

struct CellsArgs {
  View<const uint8_t> mask;
  View<uint8_t> out;
  int32_t side, area;
};

namespace SE_ISA_NAMESPACE {

SE_HD void mask_or(uint32_t* place, uint32_t bits) {
#if defined(__CUDA_ARCH__)
  atomicOr(place, bits);
#else
  *place |= bits;
#endif
}

SE_HD int32_t mask_lowest(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __ffs((int)bits) - 1;
#else
  return __builtin_ctz(bits);
#endif
}

// This thread's share of a plane of words, without a division at each.
struct MaskWalk {
  int32_t words, threads, row, i;
  SE_HD MaskWalk(int32_t per_row, int32_t thread, int32_t all)
      : words(per_row), threads(all), row(thread / per_row), i(thread % per_row) {}
  SE_HD int64_t at() const { return (int64_t)row * words + i; }
  SE_HD void next() {
    i += threads;
    while (i >= words) {
      i -= words;
      ++row;
    }
  }
};

// A band of rows as bits, 32 pixels a word, three planes of them; with the rows over and under it that its own depend on.
// The same code works for one thread (a CPU's band) and for a block's.
struct MaskBand {
  const MaskArgs& p;
  int32_t y0, rows, words;  // the first row (may be under 0), rows held, words a row
  uint32_t *one, *two, *three;
  int32_t thread, threads;

  SE_HD static int32_t reach(const MaskArgs& p) { return p.tall + 2 * p.close + 2 * p.speck; }

  SE_HD MaskBand(const MaskArgs& args, int32_t first, int32_t band, void* memory, int32_t t, int32_t n)
      : p(args), y0(first - reach(args)), rows(band + 2 * reach(args)), words((args.out.width + 31) / 32),
        one((uint32_t*)memory), two(one + (int64_t)rows * words), three(two + (int64_t)rows * words), thread(t),
        threads(n) {}

  SE_HD bool inside(int32_t row) const { return row >= 0 && row < rows && y0 + row >= 0 && y0 + row < p.out.height; }

  // The bits of word i that lie in the picture.
  SE_HD uint32_t valid(int32_t i) const {
    const int32_t left = p.out.width - 32 * i;
    return left >= 32 ? 0xffffffffu : (left <= 0 ? 0u : (1u << left) - 1u);
  }

  SE_HD void gather() const {
    for (MaskWalk w(words, thread, threads); w.row < rows; w.next()) {
      const int32_t row = w.row, i = w.i;
      uint32_t bits = 0;
      if (inside(row)) {
        const int32_t x0 = 32 * i, n = min_i32(32, p.out.width - x0);
        const uint8_t* h = p.holes.at(y0 + row, x0);
        const int64_t step = p.holes.stride_x;
        if (step == 1 && n == 32) {
          // Eight at a time: most stretches have no hole.
          for (int32_t j = 0; j < 32; j += 8) {
            uint64_t eight;
            __builtin_memcpy(&eight, h + j, 8);
            if (eight == 0) continue;
            for (int32_t m = 0; m < 8; ++m) bits |= (h[j + m] != 0 ? 1u : 0u) << (j + m);
          }
        } else {
          for (int32_t j = 0; j < n; ++j) bits |= (h[j * step] != 0 ? 1u : 0u) << j;
        }
      }
      one[w.at()] = bits;
    }
  }

  // Bits x + s of a row at bit x of word i; what is outside reads as `outside`.
  SE_HD uint32_t shifted(const uint32_t* row, int32_t i, int32_t s, uint32_t outside) const {
    const uint32_t here = (row[i] & valid(i)) | (outside & ~valid(i));
    if (s == 0) return here;
    const int32_t other = s > 0 ? i + 1 : i - 1;
    const bool exists = other >= 0 && other < words;
    const uint32_t there = exists ? (row[other] & valid(other)) | (outside & ~valid(other)) : outside;
    return s > 0 ? (here >> s) | (there << (32 - s)) : (here << -s) | (there >> (32 + s));
  }

  // Union (or, all: intersection) over 2 n + 1 columns, from one plane to another.
  SE_HD void across(const uint32_t* from, uint32_t* to, int32_t n, bool all) const {
    const uint32_t outside = all ? 0xffffffffu : 0u;
    for (MaskWalk w(words, thread, threads); w.row < rows; w.next()) {
      const uint32_t* row = from + (int64_t)w.row * words;
      uint32_t bits = outside;
      for (int32_t s = -n; s <= n; ++s) {
        const uint32_t v = shifted(row, w.i, s, outside);
        bits = all ? bits & v : bits | v;
      }
      to[w.at()] = bits & valid(w.i);
    }
  }

  // The same over 2 n + 1 rows.
  SE_HD void down(const uint32_t* from, uint32_t* to, int32_t n, bool all) const {
    for (MaskWalk w(words, thread, threads); w.row < rows; w.next()) {
      uint32_t bits = all ? 0xffffffffu : 0u;
      for (int32_t s = -n; s <= n; ++s) {
        if (!inside(w.row + s)) continue;
        const uint32_t v = from[w.at() + s * words];
        bits = all ? bits & v : bits | v;
      }
      to[w.at()] = bits & valid(w.i);
    }
  }

  SE_HD void clear(uint32_t* plane) const {
    for (int32_t k = thread; k < rows * words; k += threads) plane[k] = 0;
  }

  SE_HD bool bit(const uint32_t* row, int32_t x) const { return ((row[x >> 5] >> (x & 31)) & 1u) != 0; }

  // The first column from x on whose bit is not set.
  SE_HD int32_t run_end(const uint32_t* row, int32_t x) const {
    const int32_t width = p.out.width;
    while (x < width) {
      const uint32_t off = ~row[x >> 5] & (0xffffffffu << (x & 31));
      if (off != 0) return min_i32(width, (x & ~31) + mask_lowest(off));
      x = (x & ~31) + 32;
    }
    return width;
  }

  SE_HD void set(uint32_t* row, int32_t l, int32_t r) const {
    for (int32_t i = l >> 5; 32 * i < r; ++i) {
      uint32_t bits = 0xffffffffu;
      if (32 * i < l) bits &= 0xffffffffu << (l & 31);
      if (32 * i + 32 > r) bits &= (1u << (r & 31)) - 1u;
      mask_or(row + i, bits);
    }
  }

  SE_HD void grow(int32_t y, int32_t l, int32_t r, uint32_t* edge, uint32_t* gap) const {
    const int32_t width = p.out.width;
    int32_t right = r, left = l - 1;
    while (right < width && *p.map.at(y, right) < 0) ++right;
    while (left >= 0 && *p.map.at(y, left) < 0) --left;
    const bool far_right =
        right < width && (left < 0 || (int64_t)*p.map.at(y, right) - (right << 8) <=
                                          (int64_t)*p.map.at(y, left) - (left << 8));
    uint32_t* kind = l == 0 || r == width ? edge : gap;
    set(kind, max_i32(0, l - (far_right ? p.grow_near : p.grow_far)), min_i32(width, r + (far_right ? p.grow_far : p.grow_near)));
  }

  // The grown runs of plane one: disocclusions into two, frame edges into three. The word that a run begins in does it.
  SE_HD void runs() const {
    for (MaskWalk w(words, thread, threads); w.row < rows; w.next()) {
      const int32_t at = w.row, i = w.i;
      const int64_t k = w.at();
      if (!inside(at) || one[k] == 0) continue;
      const uint32_t* row = one + (int64_t)at * words;
      uint32_t begins = one[k] & ~((one[k] << 1) | (i > 0 ? one[k - 1] >> 31 : 0u));
      for (; begins != 0; begins &= begins - 1) {
        const int32_t l = 32 * i + mask_lowest(begins);
        grow(y0 + at, l, run_end(row, l), three + (int64_t)at * words, two + (int64_t)at * words);
      }
    }
  }

  // The bytes of sixteen bits.
  SE_HD static Chunk16 sixteen(uint32_t gap, uint32_t edge) {
    Chunk16 chunk{{0, 0, 0, 0}};
    if (((gap | edge) & 0xffffu) == 0) return chunk;
    for (int32_t k = 0; k < 4; ++k) {
      // Bit j of four goes to the lowest bit of byte j; 128 of an edge is the highest bit of 255.
      const uint32_t high = (((gap | edge) >> (4 * k)) & 15u) * 0x00204081u & 0x01010101u;
      const uint32_t all = ((gap >> (4 * k)) & 15u) * 0x00204081u & 0x01010101u;
      chunk.word[k] = (high << 7) | all * 127u;
    }
    return chunk;
  }

  // The pixels of word i of row y of the picture.
  SE_HD void put(int32_t y, int32_t i, uint32_t gap, uint32_t edge) const {
    const int32_t n = min_i32(32, p.out.width - 32 * i);
    uint8_t* o = p.out.at(y, 32 * i);
    const int64_t step = p.out.stride_x;
    if (step == 1 && n == 32 && ((uintptr_t)o & 15) == 0) {
      ((Chunk16*)o)[0] = sixteen(gap, edge);
      ((Chunk16*)o)[1] = sixteen(gap >> 16, edge >> 16);
      return;
    }
    for (int32_t j = 0; j < n; ++j)
      o[j * step] = (uint8_t)(((gap >> j) & 1u) != 0 ? 255 : (((edge >> j) & 1u) != 0 ? 128 : 0));
  }

  // Rows [first, first + count) of the picture.
  SE_HD void write(int32_t first, int32_t count) const {
    for (MaskWalk w(words, thread, threads); w.row < count; w.next()) {
      const int32_t y = first + w.row, i = w.i, row = y - y0;
      if (y >= p.out.height) continue;
      uint32_t gap = 0, edge = 0;
      for (int32_t s = -p.tall; s <= p.tall; ++s) {
        if (!inside(row + s)) continue;
        gap |= two[(int64_t)(row + s) * words + i];
        edge |= three[(int64_t)(row + s) * words + i];
      }
      put(y, i, gap, edge);
    }
  }

  // The steps before runs() and write(); in a block, a barrier lies before each.
  static constexpr int32_t kSteps = 10;
  SE_HD void step(int32_t k) const {
    switch (k) {
      case 0: return gather();
      case 1: return across(one, two, p.close, false);
      case 2: return down(two, one, p.close, false);
      case 3: return across(one, two, p.close, true);
      case 4: return down(two, one, p.close, true);
      case 5: return across(one, two, p.speck, true);
      case 6: return down(two, one, p.speck, true);
      case 7: return across(one, two, p.speck, false);
      case 8: return down(two, one, p.speck, false);
      default:
        clear(three);
        return clear(two);
    }
  }
};

// One cell of a row of cells.
SE_HD uint8_t mask_cell(const CellsArgs& p, int32_t i, int32_t j) {
  const int32_t y1 = min_i32((i + 1) * p.side, p.mask.height), x1 = min_i32((j + 1) * p.side, p.mask.width);
  int32_t k = 0;
  for (int32_t y = i * p.side; y < y1; ++y) {
    const uint8_t* m = p.mask.at(y, j * p.side);
    for (int32_t x = j * p.side; x < x1; ++x, m += p.mask.stride_x) k += *m != 0 ? 1 : 0;
  }
  const int32_t n = (y1 - i * p.side) * (x1 - j * p.side);
  return (uint8_t)(p.area != 0 ? (255 * k + n / 2) / n : (k > 0 ? 255 : 0));
}

#if !defined(__CUDACC__)
constexpr int32_t kMaskBand = 64;  // rows that share their neighbours' work

// What a band's across, down and write do, a row at a time, in loops that become lanes: their length is a local, since a
// member might be among the words that they write. spare: 2 * words + 2 words.
struct MaskRows : MaskBand {
  uint32_t* spare;

  MaskRows(const MaskArgs& args, int32_t first, uint32_t* scratch)
      : MaskBand(args, first, kMaskBand, scratch, 0, 1), spare(three + (int64_t)rows * words) {}

  template <bool All>
  static uint32_t join(uint32_t a, uint32_t b) { return All ? a & b : a | b; }

  template <bool All>
  void across(int32_t n) const {
    const int32_t words = this->words;
    const uint32_t outside = All ? 0xffffffffu : 0u, last = valid(words - 1);
    uint32_t* __restrict row = spare;  // with what lies beyond its ends
    row[0] = row[words + 1] = outside;
    for (int32_t y = 0; y < rows; ++y) {
      const uint32_t* from = one + (int64_t)y * words;
      uint32_t* __restrict to = two + (int64_t)y * words;
      for (int32_t i = 0; i < words; ++i) row[i + 1] = from[i];
      row[words] = (row[words] & last) | (outside & ~last);
      for (int32_t i = 0; i < words; ++i) to[i] = row[i + 1];
      for (int32_t s = 1; s <= n; ++s)
        for (int32_t i = 0; i < words; ++i) {
          const uint32_t after = row[i + 1] >> s | row[i + 2] << (32 - s), before = row[i + 1] << s | row[i] >> (32 - s);
          to[i] = join<All>(to[i], join<All>(after, before));
        }
      to[words - 1] &= last;
    }
  }

  template <bool All>
  void down(int32_t n) const {
    const int32_t words = this->words;
    for (int32_t y = 0; y < rows; ++y) {
      uint32_t* __restrict to = one + (int64_t)y * words;
      for (int32_t i = 0; i < words; ++i) to[i] = All ? 0xffffffffu : 0u;
      for (int32_t s = -n; s <= n; ++s) {
        if (!inside(y + s)) continue;
        const uint32_t* __restrict from = two + (int64_t)(y + s) * words;
        for (int32_t i = 0; i < words; ++i) to[i] = join<All>(to[i], from[i]);
      }
      to[words - 1] &= valid(words - 1);
    }
  }

  template <bool All>
  void window(int32_t n) const {
    across<All>(n);
    down<All>(n);
  }

  void write(int32_t first, int32_t count) const {
    const int32_t words = this->words;
    uint32_t *__restrict gap = spare, *__restrict edge = spare + words;
    for (int32_t y = first; y < first + count; ++y) {
      for (int32_t i = 0; i < 2 * words; ++i) spare[i] = 0;
      for (int32_t s = -p.tall; s <= p.tall; ++s) {
        const int32_t row = y - y0 + s;
        if (!inside(row)) continue;
        const uint32_t *__restrict g = two + (int64_t)row * words, *__restrict e = three + (int64_t)row * words;
        for (int32_t i = 0; i < words; ++i) gap[i] |= g[i];
        for (int32_t i = 0; i < words; ++i) edge[i] |= e[i];
      }
      for (int32_t i = 0; i < words; ++i) put(y, i, gap[i], edge[i]);
    }
  }
};

// Bytes of scratch.
inline int64_t mask_scratch(const MaskArgs& p) {
  const int64_t words = (p.out.width + 31) / 32;
  return 4 * (3 * words * (kMaskBand + 2 * MaskBand::reach(p)) + 2 * words + 2);
}

inline void mask_rows(const MaskArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  for (int32_t y = y0; y < y1; y += kMaskBand) {
    const MaskRows band(p, y, (uint32_t*)scratch);
    band.gather();
    if (p.close > 0) {
      band.window<false>(p.close);
      band.window<true>(p.close);
    }
    if (p.speck > 0) {
      band.window<true>(p.speck);
      band.window<false>(p.speck);
    }
    band.clear(band.three);
    band.clear(band.two);
    band.runs();
    band.write(y, min_i32(kMaskBand, y1 - y));
  }
}

inline void cells_rows(const CellsArgs& p, int32_t y0, int32_t y1) {
  for (int32_t i = y0; i < y1; ++i)
    for (int32_t j = 0; j < p.out.width; ++j) *p.out.at(i, j) = mask_cell(p, i, j);
}
#endif

// A block is a band of rows.
struct MaskBlocks {
  using Args = MaskArgs;
  static constexpr int32_t kPhases = MaskBand::kSteps + 2, kThreads = 256;
  static constexpr int64_t kMostShared = 64 * 1024;  // what every device gives when it is asked

  SE_HD static int64_t shared_bytes(const Args& p, int32_t rows) {
    return 12 * (int64_t)((p.out.width + 31) / 32) * (rows + 2 * MaskBand::reach(p));
  }

  // Rows of a block: as many of 8 as fit.
  SE_HD static int32_t rows_of(const Args& p) {
    int32_t rows = 8;
    while (rows > 1 && shared_bytes(p, rows) > kMostShared) rows /= 2;
    return rows;
  }

  static Grid grid(const Args& p) {
    const int32_t rows = rows_of(p);
    return {1, (p.out.height + rows - 1) / rows, shared_bytes(p, rows)};
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const int32_t rows = rows_of(p);
    const MaskBand band(p, b.y * rows, rows, b.shared, b.thread, kThreads);
    if (k < MaskBand::kSteps)
      band.step(k);
    else if (k == MaskBand::kSteps)
      band.runs();
    else
      band.write(b.y * rows, rows);
  }
};

// A thread is a cell.
struct CellsBlocks {
  using Args = CellsArgs;
  static constexpr int32_t kPhases = 1, kThreads = 64;

  static Grid grid(const Args& p) { return {(p.out.width + kThreads - 1) / kThreads, p.out.height, 0}; }

  SE_HD static void phase(int32_t, const Args& p, const Block& b) {
    const int32_t j = b.x * kThreads + b.thread;
    if (j < p.out.width) *p.out.at(b.y, j) = mask_cell(p, b.y, j);
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
