// SPDX-License-Identifier: Apache-2.0
// moves: by how much a picture's pixels move for an eye, or a view's for a second step down or up from it. What stays flat
// moves as one. Of sessions alone (session/canvas.h).
//
// Law (class EXACT). plane: float32 [H, W], finite, or none; cover: uint8 [H, W], or none; out: float32 [H, W]. Every step is
// rounded by itself.
//   Of a picture: v[x] = flat where cover[x] is not 0; else plane[x] scale + offset, or offset without a plane.
//   Of a view, M its backward map (warp.op.h): a pixel with M[t] >= 0 takes v[min((M[t] + 128) >> 8, W - 1)]. A hole takes the
//     lesser, which is the farther, of what the pixels on its two sides take; at the row's end the one side's; offset in
//     a row of nothing but hole. Views from the left are the mirror images of views from the right.
#pragma once
#include "core/block.h"
#include "core/types.h"

namespace se {

struct MovesArgs {
  View<const float> plane;    // none where its data is null
  View<const uint8_t> cover;  // none where its data is null
  View<float> out;
  float scale, offset, flat;
};

struct ViewMovesArgs {
  MovesArgs picture;  // with a plane
  View<const int32_t> map;
};

namespace SE_ISA_NAMESPACE {

SE_HD float moves_value(const MovesArgs& p, int32_t y, int32_t x) {
  if (p.cover.data != nullptr && *p.cover.at(y, x) != 0) return p.flat;
  return p.plane.data != nullptr ? *p.plane.at(y, x) * p.scale + p.offset : p.offset;
}

// What pixel t, which is no hole, of a view takes.
SE_HD float moves_of_view(const ViewMovesArgs& p, int32_t y, int32_t t) {
  return moves_value(p.picture, y, min_i32((*p.map.at(y, t) + 128) >> 8, p.map.width - 1));
}

// What the hole [l, r) takes.
SE_HD float moves_of_hole(const ViewMovesArgs& p, int32_t y, int32_t l, int32_t r) {
  if (l == 0) return r < p.map.width ? moves_of_view(p, y, r) : p.picture.offset;
  const float before = moves_of_view(p, y, l - 1);
  if (r == p.map.width) return before;
  const float after = moves_of_view(p, y, r);
  return after < before ? after : before;
}

#if !defined(__CUDACC__)
inline void moves_rows(const MovesArgs& p, int32_t y0, int32_t y1) {  // of packed rows
  const int32_t width = p.out.width;
  const float scale = p.scale, offset = p.offset, flat = p.flat;
  for (int32_t y = y0; y < y1; ++y) {
    float* __restrict to = p.out.row(y);
    if (p.plane.data != nullptr) {
      const float* __restrict from = p.plane.row(y);
      for (int32_t x = 0; x < width; ++x) to[x] = from[x] * scale + offset;
    } else {
      for (int32_t x = 0; x < width; ++x) to[x] = offset;
    }
    if (p.cover.data == nullptr) continue;
    const uint8_t* __restrict cover = p.cover.row(y);
    for (int32_t x = 0; x < width; ++x) to[x] = cover[x] != 0 ? flat : to[x];
  }
}

// A row of a map, pixel by pixel and hole by hole: seen(t) of what is no hole, hole(l, r) of the hole [l, r).
template <typename Seen, typename Hole>
inline void walk_map_row(const View<const int32_t>& map, int32_t y, const Seen& seen, const Hole& hole) {
  for (int32_t t = 0; t < map.width;) {
    const int32_t l = t;
    while (t < map.width && *map.at(y, t) < 0) ++t;
    if (t > l)
      hole(l, t);
    else
      seen(t++);
  }
}

inline void view_moves_rows(const ViewMovesArgs& given, int32_t y0, int32_t y1) {
  const ViewMovesArgs p = given;  // or the compiler would read its fields again after each value that is written
  for (int32_t y = y0; y < y1; ++y) {
    walk_map_row(p.map, y, [&](int32_t t) { *p.picture.out.at(y, t) = moves_of_view(p, y, t); }, [&](int32_t l, int32_t r) {
      const float moves = moves_of_hole(p, y, l, r);
      for (int32_t k = l; k < r; ++k) *p.picture.out.at(y, k) = moves;
    });
  }
}
#endif

// A block is a piece of a row; nothing is shared.
struct MovesBlocks {
  using Args = MovesArgs;
  static constexpr int32_t kPhases = 1, kThreads = 256, kPiece = 4 * kThreads;

  static Grid grid(const Args& p) { return {(p.out.width + kPiece - 1) / kPiece, p.out.height, 0}; }

  SE_HD static void phase(int32_t, const Args& p, const Block& b) {
    const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, p.out.width);
    const bool fours = rows_are_aligned(p.out, 16) && (p.plane.data == nullptr || rows_are_aligned(p.plane, 16)) &&
                       (p.cover.data == nullptr || rows_are_aligned(p.cover, 4));
    if (fours && x0 + kPiece <= p.out.width) {
      const int32_t at = x0 / 4 + b.thread;  // four values a thread
      Chunk16 four{};
      if (p.plane.data != nullptr) four = ((const Chunk16*)p.plane.row(b.y))[at];
      const uint32_t covered = p.cover.data != nullptr ? ((const Word32*)p.cover.row(b.y))[at] : 0;
      for (int32_t k = 0; k < 4; ++k) {
        const float moved = p.plane.data != nullptr ? float_of_bits(four.word[k]) * p.scale + p.offset : p.offset;
        four.word[k] = bits_of_float((covered >> (8 * k) & 255u) != 0 ? p.flat : moved);
      }
      ((Chunk16*)p.out.row(b.y))[at] = four;
      return;
    }
    for (int32_t x = x0 + b.thread; x < x1; x += kThreads) *p.out.at(b.y, x) = moves_value(p, b.y, x);
  }
};

// The bits of a map's holes in shared memory, a row to a block. Widths are at most 16384.
SE_HD void block_map_holes(const View<const int32_t>& map, int32_t y, uint32_t* shared, int32_t thread, int32_t threads) {
  const int32_t words = (map.width + 31) / 32;
  for (int32_t i = thread; i < words + 2; i += threads) {
    uint32_t bits = 0;
    if (i > 0 && i <= words) {
      const int32_t first = 32 * (i - 1), n = min_i32(32, map.width - first);
      for (int32_t k = 0; k < n; ++k) bits |= (*map.at(y, first + k) < 0 ? 1u : 0u) << k;
    }
    shared[i] = bits;
  }
}
inline int64_t map_holes_bytes(const View<const int32_t>& map) { return 4 * (((int64_t)map.width + 31) / 32 + 2); }

// A block is a row.
struct ViewMovesBlocks {
  using Args = ViewMovesArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256;

  static Grid grid(const Args& p) { return {1, p.map.height, map_holes_bytes(p.map)}; }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    if (k == 0) return block_map_holes(p.map, b.y, (uint32_t*)b.shared, b.thread, kThreads);
    const uint32_t* holes = (const uint32_t*)b.shared + 1;
    for (int32_t t = b.thread; t < p.map.width; t += kThreads)
      *p.picture.out.at(b.y, t) = block_bit(holes, t) ? moves_of_hole(p, b.y, block_run_begin(holes, t), block_run_end(holes, t))
                                                      : moves_of_view(p, b.y, t);
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
