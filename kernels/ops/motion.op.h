// SPDX-License-Identifier: Apache-2.0
// motion: where each 8 x 8 block of a frame was in the frame before it.
//
// Law (class EXACT). now, before: uint8 [H, W] luma. Block (i, j) covers rows 8 i .. 8 i + 7 and columns 8 j .. 8 j + 7,
// cut at the borders. Its start (sy, sx) is given, or 0. Over all (dy, dx) with |dy - sy|, |dx - sx| <= radius
//   cost = sum over the block of |now[y, x] - before[clamp(y + dy), clamp(x + dx)]| + 4 (|dy - sy| + |dx - sx|)
// and the least wins, the first one in order of dy, then dx, on a tie. out[i, j] = (dy, dx, its sum of differences).
#pragma once
#include "core/block.h"
#include "core/types.h"
#if defined(__AVX2__) && !defined(__CUDACC__)
#include <immintrin.h>
#elif defined(__SSE2__) && !defined(__CUDACC__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && !defined(__CUDACC__)
#include <arm_neon.h>
#endif

namespace se {

struct MotionArgs {
  View<const uint8_t> now, before;
  View<const int32_t> start;  // [rows, columns, 2]; data may be null
  View<int32_t> out;          // [rows, columns, 3]
  int32_t radius;
};

namespace SE_ISA_NAMESPACE {

#if !defined(__CUDACC__) && defined(__SSE2__)
inline int32_t motion_sad_8x8(const uint8_t* a, int64_t a_step, const uint8_t* b, int64_t b_step) {
  __m128i sum = _mm_setzero_si128();
  for (int32_t y = 0; y < 8; y += 2, a += 2 * a_step, b += 2 * b_step) {
    const __m128i one = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i*)a), _mm_loadl_epi64((const __m128i*)(a + a_step)));
    const __m128i two = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i*)b), _mm_loadl_epi64((const __m128i*)(b + b_step)));
    sum = _mm_add_epi32(sum, _mm_sad_epu8(one, two));
  }
  return _mm_cvtsi128_si32(sum) + _mm_cvtsi128_si32(_mm_unpackhi_epi64(sum, sum));
}
#elif !defined(__CUDACC__) && defined(__ARM_NEON)
inline int32_t motion_sad_8x8(const uint8_t* a, int64_t a_step, const uint8_t* b, int64_t b_step) {
  uint16x8_t sum = vdupq_n_u16(0);
  for (int32_t y = 0; y < 8; ++y, a += a_step, b += b_step) sum = vabal_u8(sum, vld1_u8(a), vld1_u8(b));
  return (int32_t)vaddlvq_u16(sum);
}
#endif

// Sum of absolute differences of a block at a displacement; at least `enough` when it is no less than that.
SE_HD int32_t motion_sad(const MotionArgs& p, int32_t y0, int32_t x0, int32_t dy, int32_t dx, int32_t enough) {
  const int32_t height = p.now.height, width = p.now.width;
  const int32_t y1 = min_i32(y0 + 8, height), x1 = min_i32(x0 + 8, width);
  int32_t sum = 0;
  if (x1 - x0 == 8 && x0 + dx >= 0 && x0 + dx + 8 <= width && p.now.stride_x == 1 && p.before.stride_x == 1) {
#if !defined(__CUDACC__) && (defined(__SSE2__) || defined(__ARM_NEON))
    if (y1 - y0 == 8 && y0 + dy >= 0 && y0 + dy + 8 <= height)
      return motion_sad_8x8(p.now.at(y0, x0), p.now.stride_y, p.before.at(y0 + dy, x0 + dx), p.before.stride_y);
#endif
    for (int32_t y = y0; y < y1 && sum < enough; ++y) {
      const uint8_t *a = p.now.at(y, x0), *b = p.before.at(clamp_i32(y + dy, 0, height - 1), x0 + dx);
      for (int32_t x = 0; x < 8; ++x) sum += abs_i32(a[x] - b[x]);
    }
    return sum;
  }
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = x0; x < x1; ++x)
      sum += abs_i32(*p.now.at(y, x) - *p.before.at(clamp_i32(y + dy, 0, height - 1), clamp_i32(x + dx, 0, width - 1)));
  return sum;
}

#if !defined(__CUDACC__) && defined(__AVX2__)
// Eight displacements of a block at once, dx to dx + 7.
struct MotionLanes {
  const MotionArgs& p;
  const int32_t y0, x0;
  const bool whole;
  __m256i rows[8];  // of the block, twice each

  MotionLanes(const MotionArgs& args, int32_t y, int32_t x)
      : p(args), y0(y), x0(x), whole(y + 8 <= p.now.height && x + 8 <= p.now.width && p.now.stride_x == 1 && p.before.stride_x == 1) {
    for (int32_t k = 0; k < 8 && whole; ++k) {
      int64_t row;
      __builtin_memcpy(&row, p.now.at(y + k, x), 8);
      rows[k] = _mm256_set1_epi64x(row);
    }
  }

  // Whether all that is read lies in the picture.
  bool fit(int32_t dy, int32_t dx) const {
    return whole && y0 + dy >= 0 && y0 + dy + 8 <= p.before.height && x0 + dx >= 0 && x0 + dx + 16 <= p.before.width;
  }

  // The least cost of those up to dx = last, and which it is, the first on a tie; far: what dy costs.
  int32_t least(int32_t dy, int32_t dx, int32_t sx, int32_t last, int32_t far, int32_t* which, int32_t* sad) const {
    const uint8_t* from = p.before.at(y0 + dy, x0 + dx);
    __m256i sums = _mm256_setzero_si256();
    for (int32_t k = 0; k < 8; ++k, from += p.before.stride_y) {
      const __m256i window = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)from));
      // The block's first four columns in the lower half, its last four in the upper one.
      sums = _mm256_add_epi16(sums, _mm256_mpsadbw_epu8(window, rows[k], 0x28));
    }
    const __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const __m128i lane = _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7);
    const __m128i across = _mm_abs_epi16(_mm_add_epi16(lane, _mm_set1_epi16((int16_t)(dx - sx))));
    const __m128i cost = _mm_add_epi16(_mm_add_epi16(sum, _mm_slli_epi16(across, 2)), _mm_set1_epi16((int16_t)far));
    const __m128i beyond = _mm_cmpgt_epi16(lane, _mm_set1_epi16((int16_t)(last - dx)));
    const __m128i best = _mm_minpos_epu16(_mm_or_si128(cost, beyond));
    const int32_t k = _mm_extract_epi16(best, 1);
    *which = dx + k;
    *sad = _mm_extract_epi16(best, 0) - far - 4 * abs_i32(*which - sx);
    return _mm_extract_epi16(best, 0);
  }
};
#endif

SE_HD void motion_block(const MotionArgs& p, int32_t i, int32_t j) {
  const int32_t r = p.radius, height = p.now.height, width = p.now.width;
  // A start beyond the picture says no more than its border.
  const int32_t sy = p.start.data == nullptr ? 0 : clamp_i32(*p.start.at(i, j, 0), -height, height);
  const int32_t sx = p.start.data == nullptr ? 0 : clamp_i32(*p.start.at(i, j, 1), -width, width);
  // What costs more than staying at the start cannot win, so most sums need not be finished.
  int32_t best = motion_sad(p, 8 * i, 8 * j, sy, sx, 0x7fffffff) + 1, best_sad = best - 1, best_y = sy, best_x = sx;
#if !defined(__CUDACC__) && defined(__AVX2__)
  const MotionLanes lanes(p, 8 * i, 8 * j);
#endif
  for (int32_t dy = sy - r; dy <= sy + r; ++dy) {
    for (int32_t dx = sx - r; dx <= sx + r; ++dx) {
#if !defined(__CUDACC__) && defined(__AVX2__)
      if (lanes.fit(dy, dx)) {
        int32_t which, sad;
        const int32_t cost = lanes.least(dy, dx, sx, sx + r, 4 * abs_i32(dy - sy), &which, &sad);
        if (cost < best) {
          best = cost;
          best_sad = sad;
          best_y = dy;
          best_x = which;
        }
        dx += 7;
        continue;
      }
#endif
      const int32_t far = 4 * (abs_i32(dy - sy) + abs_i32(dx - sx));
      const int32_t sad = motion_sad(p, 8 * i, 8 * j, dy, dx, best - far), cost = sad + far;
      if (cost < best) {
        best = cost;
        best_sad = sad;
        best_y = dy;
        best_x = dx;
      }
    }
  }
  *p.out.at(i, j, 0) = best_y;
  *p.out.at(i, j, 1) = best_x;
  *p.out.at(i, j, 2) = best_sad;
}

#if !defined(__CUDACC__)
inline void motion_rows(const MotionArgs& p, int32_t i0, int32_t i1) {
  for (int32_t i = i0; i < i1; ++i)
    for (int32_t j = 0; j < p.out.width; ++j) motion_block(p, i, j);
}
#endif

// A thread is a block of pixels.
struct MotionBlocks {
  using Args = MotionArgs;
  static constexpr int32_t kPhases = 1, kThreads = 32;

  static Grid grid(const Args& p) { return {(p.out.width + kThreads - 1) / kThreads, p.out.height, 0}; }

  SE_HD static void phase(int32_t, const Args& p, const Block& b) {
    const int32_t j = b.x * kThreads + b.thread;
    if (j < p.out.width) motion_block(p, b.y, j);
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
