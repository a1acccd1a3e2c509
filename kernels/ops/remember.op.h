// SPDX-License-Identifier: Apache-2.0
// follow and recall: what was seen behind things. Of sessions alone (session/background.h).
//
// Law (class EXACT). A memory: for every pixel an age (0 knows nothing, 1 is seen now), the farthest level that was there and
// its paint: uint8 [H, W], float32 [H, W], uint8 [H, W, C]. Larger levels are nearer.
//   follow: a frame's memory out of the one before, which lies (dy, dx) back; outside it, or older than 249, nothing is known.
//     A pixel that is not nearer than what was known (by more than `tolerance`), or has its colour (10 levels a channel), is
//     taken over, but not beside a depth edge: of the 7 pixels about it in its row none may be nearer by more than
//     `tolerance`, nor, where the colour alone spoke for it, farther. What is not taken over grows older by one.
//   recall: holes of the view that M is the backward map of (warp.op.h) show what is known. q[t] = M[t] / 256 - t on either
//     side of a hole, far the lesser and near the greater (far alone at a row's end). For pixel k of the hole the memory's
//     pixels s within 3 of floor(k + far + 0.5), in order, for which v = level scale + offset is less than near - 0.5 and
//     |s - k - v| is less than 0.75, and than that of those before: the last of them is shown. Views from the left are
//     mirror images.
#pragma once
#include "core/block.h"
#include "core/types.h"
#include "ops/moves.op.h"

namespace se {

struct Memory3 {
  View<uint8_t> age, paint;
  View<float> level;
};

struct FollowArgs {
  View<const float> plane;
  View<const uint8_t> frame;
  Memory3 before, now;  // before: none where its age's data is null
  float tolerance;
  int32_t dx, dy;
};

struct RecallArgs {
  View<const int32_t> map;
  Memory3 memory;
  View<uint8_t> to;
  float scale, offset;
};

namespace SE_ISA_NAMESPACE {

SE_HD int32_t floor_i32(float v) {
  const int32_t whole = (int32_t)v;
  return (float)whole > v ? whole - 1 : whole;
}
SE_HD float abs_f32(float v) { return v < 0.0f ? -v : v; }

SE_HD void follow_pixel(const FollowArgs& p, int32_t y, int32_t x) {
  constexpr int32_t kOldest = 250;  // frames that something hidden is kept
  constexpr int32_t kAlike = 10;    // grey levels up to which two colours are one surface's
  constexpr int32_t kBeside = 3;    // pixels from a depth edge within which depth is not believed
  const int32_t width = p.plane.width, channels = p.frame.channels, fy = y - p.dy, fx = x - p.dx;
  const float* plane = p.plane.row(y);  // all planes are packed
  const float here = plane[x];
  const uint8_t *seen = p.frame.row(y) + x * channels, *paint = seen;
  int32_t age = 0;
  float level = 0;
  if (p.before.age.data != nullptr && fy >= 0 && fy < p.plane.height && fx >= 0 && fx < width) {
    age = p.before.age.row(fy)[fx];
    level = p.before.level.row(fy)[fx];
    paint = p.before.paint.row(fy) + fx * channels;
    if (age >= kOldest) age = 0;
  }
  const bool farther = age == 0 || here <= level + p.tolerance;
  bool take = farther;
  if (!take) {
    take = true;
    for (int32_t c = 0; c < 3; ++c) {
      const int32_t apart = (int32_t)paint[c] - (int32_t)seen[c];
      take = take && apart <= kAlike && -apart <= kAlike;
    }
  }
  if (take) {
    float nearest = here, farthest = here;
    for (int32_t k = max_i32(0, x - kBeside); k <= min_i32(width - 1, x + kBeside); ++k) {
      const float v = plane[k];
      nearest = v > nearest ? v : nearest;
      farthest = v < farthest ? v : farthest;
    }
    take = nearest <= here + p.tolerance && (farther || farthest >= here - p.tolerance);
  }
  if (take) {
    level = here;
    paint = seen;
    age = 1;
  } else if (age != 0) {
    ++age;
  }
  p.now.level.row(y)[x] = level;
  p.now.age.row(y)[x] = (uint8_t)age;
  uint8_t* to = p.now.paint.row(y) + x * channels;
  for (int32_t c = 0; c < channels; ++c) to[c] = paint[c];
}

// Where the sides of the hole [l, r) would go on.
struct RecallSides {
  float far, near;
  bool any;
};

SE_HD RecallSides recall_sides(const RecallArgs& p, int32_t y, int32_t l, int32_t r) {
  constexpr float kNone = 1e9f;
  const bool left = l > 0, right = r < p.map.width;
  const float before = left ? (float)*p.map.at(y, l - 1) * 0.00390625f - (float)(l - 1) : kNone;
  const float after = right ? (float)*p.map.at(y, r) * 0.00390625f - (float)r : kNone;
  return {after < before ? after : before, !left || !right ? kNone : (after > before ? after : before), left || right};
}

// Pixel k of a hole.
SE_HD void recall_pixel(const RecallArgs& p, int32_t y, int32_t k, const RecallSides& sides) {
  constexpr float kNear = 0.75f;
  const int32_t centre = floor_i32((float)k + sides.far + 0.5f);
  float least = kNear;
  int32_t found = -1;
  for (int32_t s = max_i32(0, centre - 3); s <= min_i32(p.map.width - 1, centre + 3); ++s) {
    if (*p.memory.age.at(y, s) == 0) continue;
    const float moves = *p.memory.level.at(y, s) * p.scale + p.offset, apart = abs_f32((float)(s - k) - moves);
    if (apart >= least || moves >= sides.near - 0.5f) continue;
    least = apart;
    found = s;
  }
  if (found < 0) return;
  const uint8_t* from = p.memory.paint.at(y, found);
  uint8_t* to = p.to.at(y, k);
  for (int32_t c = 0; c < p.to.channels; ++c) to[c] = from[c];
}

#if !defined(__CUDACC__)
// `given` is copied: the compiler would read its fields again after each byte that is written.
inline void follow_rows(const FollowArgs& given, int32_t y0, int32_t y1) {
  const FollowArgs p = given;
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < p.plane.width; ++x) follow_pixel(p, y, x);
}

inline void recall_rows(const RecallArgs& given, int32_t y0, int32_t y1) {
  const RecallArgs p = given;
  for (int32_t y = y0; y < y1; ++y) {
    walk_map_row(p.map, y, [](int32_t) {}, [&](int32_t l, int32_t r) {
      const RecallSides sides = recall_sides(p, y, l, r);
      for (int32_t k = l; sides.any && k < r; ++k) recall_pixel(p, y, k, sides);
    });
  }
}
#endif

// A block is a piece of a row; nothing is shared.
struct FollowBlocks {
  using Args = FollowArgs;
  static constexpr int32_t kPhases = 1, kThreads = 256;

  static Grid grid(const Args& p) { return {(p.plane.width + kThreads - 1) / kThreads, p.plane.height, 0}; }

  SE_HD static void phase(int32_t, const Args& p, const Block& b) {
    const int32_t x = b.x * kThreads + b.thread;
    if (x < p.plane.width) follow_pixel(p, b.y, x);
  }
};

// A block is a row.
struct RecallBlocks {
  using Args = RecallArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256;

  static Grid grid(const Args& p) { return {1, p.map.height, map_holes_bytes(p.map)}; }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    if (k == 0) return block_map_holes(p.map, b.y, (uint32_t*)b.shared, b.thread, kThreads);
    const uint32_t* holes = (const uint32_t*)b.shared + 1;
    for (int32_t t = b.thread; t < p.map.width; t += kThreads) {
      if (!block_bit(holes, t)) continue;
      const RecallSides sides = recall_sides(p, b.y, block_run_begin(holes, t), block_run_end(holes, t));
      if (sides.any) recall_pixel(p, b.y, t, sides);
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
