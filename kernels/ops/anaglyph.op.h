// SPDX-License-Identifier: Apache-2.0
// anaglyph: both views in one picture, told apart by colour.
//
// Law (class EXACT). left, right: uint8 [H, W, 3]. out[c] = clamp((sum_k m[c][k] left[k] + m[c][3 + k] right[k] + 2048)
// >> 12, 0, 255), m the matrix in 1/4096, applied to sRGB values as they are (as Dubois's published matrices are used
// by every common viewer).
#pragma once
#include "core/block.h"
#include "core/lanes.h"
#include "core/types.h"

namespace se {

struct AnaglyphArgs {
  View<const uint8_t> left, right;
  View<uint8_t> out;
  int32_t matrix[3][6];
};

namespace SE_ISA_NAMESPACE {

SE_HD uint8_t anaglyph_channel(const int32_t* m, const uint8_t* l, int64_t ls, const uint8_t* r, int64_t rs) {
  const int32_t sum = m[0] * l[0] + m[1] * l[ls] + m[2] * l[2 * ls] + m[3] * r[0] + m[4] * r[rs] + m[5] * r[2 * rs];
  return (uint8_t)clamp_i32((sum + 2048) >> 12, 0, 255);
}

#if !defined(__CUDACC__)
#if defined(__AVX2__)
// A pixel's six values lie in three pairs of 16 bits, (l0, l1), (l2, r0), (r1, r2); these are a pair's coefficients.
inline int32_t anaglyph_pair(const int32_t* m, int32_t c, int32_t pair) {
  const uint32_t a = (uint32_t)m[6 * c + 2 * pair], b = (uint32_t)m[6 * c + 2 * pair + 1];
  return (int32_t)((a & 0xffffu) | b << 16);
}

#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
// Where bytes go on their way into lanes and back.
struct alignas(64) AnaglyphOrder {
  // Bytes 0..63 are the left's, 64..127 the right's.
  uint8_t pick[3][64] = {};
  // Packing leaves pixel 16 g + 4 i + j at byte 16 i + 4 g + j of its channel's vector.
  uint8_t weave[3][64] = {};
  uint64_t third[3] = {};

  constexpr AnaglyphOrder() {
    for (int32_t lane = 0; lane < 16; ++lane)
      for (int32_t value = 0; value < 6; ++value)
        pick[value / 2][4 * lane + 2 * (value % 2)] = (uint8_t)(value < 3 ? 3 * lane + value : 64 + 3 * lane + value - 3);
    for (int32_t k = 0; k < 192; ++k) {
      const int32_t pixel = k / 3, channel = k % 3;
      const int32_t place = 16 * ((pixel >> 2) & 3) + 4 * (pixel >> 4) + (pixel & 3);
      weave[k / 64][k % 64] = (uint8_t)(channel == 1 ? 64 + place : place);
      if (channel == 2) third[k / 64] |= uint64_t{1} << (k % 64);
    }
  }
};

struct AnaglyphLanes {
  static constexpr int32_t kPixels = 64;
  static constexpr AnaglyphOrder order{};
  __m512i weight[3][3];

  explicit AnaglyphLanes(const int32_t* m) {
    for (int32_t k = 0; k < 9; ++k) weight[k / 3][k % 3] = _mm512_set1_epi32(anaglyph_pair(m, k / 3, k % 3));
  }

  void operator()(const uint8_t* l, const uint8_t* r, uint8_t* o) const {
    const __m512i p0 = _mm512_load_si512(order.pick[0]), p1 = _mm512_load_si512(order.pick[1]);
    const __m512i p2 = _mm512_load_si512(order.pick[2]), half = _mm512_set1_epi32(2048);
    const __mmask64 low = 0x5555555555555555ull, bytes = 0xffffffffffffull;
    __m512i sum[3][4];
    for (int32_t g = 0; g < 4; ++g) {
      // 48 bytes are wanted; of the last ones no more may be read.
      const __m512i a = g < 3 ? _mm512_loadu_si512(l + 48 * g) : _mm512_maskz_loadu_epi8(bytes, l + 48 * g);
      const __m512i b = g < 3 ? _mm512_loadu_si512(r + 48 * g) : _mm512_maskz_loadu_epi8(bytes, r + 48 * g);
      const __m512i v0 = _mm512_maskz_permutexvar_epi8(low, p0, a), v1 = _mm512_maskz_permutex2var_epi8(low, a, p1, b);
      const __m512i v2 = _mm512_maskz_permutexvar_epi8(low, p2, b);
      for (int32_t c = 0; c < 3; ++c) {
        __m512i s = _mm512_dpwssd_epi32(half, v0, weight[c][0]);
        s = _mm512_dpwssd_epi32(s, v1, weight[c][1]);
        sum[c][g] = _mm512_srai_epi32(_mm512_dpwssd_epi32(s, v2, weight[c][2]), 12);
      }
    }
    __m512i channel[3];
    for (int32_t c = 0; c < 3; ++c)
      channel[c] = _mm512_packus_epi16(_mm512_packs_epi32(sum[c][0], sum[c][1]), _mm512_packs_epi32(sum[c][2], sum[c][3]));
    for (int32_t v = 0; v < 3; ++v) {
      const __m512i index = _mm512_load_si512(order.weave[v]);
      const __m512i two = _mm512_permutex2var_epi8(channel[0], index, channel[1]);
      _mm512_storeu_si512(o + 64 * v, _mm512_mask_permutexvar_epi8(two, (__mmask64)order.third[v], index, channel[2]));
    }
  }
};
#else
// Where bytes go on their way into lanes; both halves of a register alike.
struct alignas(32) AnaglyphOrder {
  // Of twelve bytes, from the register's first or fifth on: l0 and l1; l2; r0; r1 and r2.
  uint8_t pick[2][4][32] = {};

  constexpr AnaglyphOrder() {
    constexpr uint8_t nothing = 0x80;
    for (int32_t k = 0; k < 32; ++k) {
      const int32_t pixel = (k % 16) / 4, byte = k % 4;
      for (int32_t late = 0; late < 2; ++late) {
        const int32_t from = 3 * pixel + 4 * late;
        pick[late][0][k] = byte % 2 == 0 ? (uint8_t)(from + byte / 2) : nothing;
        pick[late][1][k] = byte == 0 ? (uint8_t)(from + 2) : nothing;
        pick[late][2][k] = byte == 2 ? (uint8_t)from : nothing;
        pick[late][3][k] = byte % 2 == 0 ? (uint8_t)(from + 1 + byte / 2) : nothing;
      }
    }
  }
};

struct AnaglyphLanes {
  static constexpr int32_t kPixels = 32;
  static constexpr AnaglyphOrder order{};
  __m256i weight[3][3];

  explicit AnaglyphLanes(const int32_t* m) {
    for (int32_t k = 0; k < 9; ++k) weight[k / 3][k % 3] = _mm256_set1_epi32(anaglyph_pair(m, k / 3, k % 3));
  }

  static __m256i at(const uint8_t* table) { return _mm256_load_si256((const __m256i*)table); }

  // Pixels 4 g to 4 g + 3 of the first sixteen, and of the last. Of the last four no byte after them may be read.
  static __m256i load(const uint8_t* from, int32_t g) {
    const uint8_t* p = from + (g < 3 ? 12 * g : 32);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)p)),
                                   _mm_loadu_si128((const __m128i*)(p + 48)), 1);
  }

  void operator()(const uint8_t* l, const uint8_t* r, uint8_t* o) const {
    __m256i sum[3][4];
    for (int32_t g = 0; g < 4; ++g) {
      const auto& pick = order.pick[g == 3];
      const __m256i a = load(l, g), b = load(r, g);
      const __m256i v0 = _mm256_shuffle_epi8(a, at(pick[0])), v2 = _mm256_shuffle_epi8(b, at(pick[3]));
      const __m256i v1 = _mm256_or_si256(_mm256_shuffle_epi8(a, at(pick[1])), _mm256_shuffle_epi8(b, at(pick[2])));
      for (int32_t c = 0; c < 3; ++c) {
        __m256i s = _mm256_add_epi32(_mm256_madd_epi16(v0, weight[c][0]), _mm256_madd_epi16(v1, weight[c][1]));
        s = _mm256_add_epi32(s, _mm256_madd_epi16(v2, weight[c][2]));
        sum[c][g] = _mm256_srai_epi32(s, 11);
      }
    }
    __m256i channel[3];
    const __m256i zero = _mm256_setzero_si256();
    // (s + 2048) >> 12 is ((s >> 11) + 1) >> 1, an average with nothing once what is below nothing is gone.
    for (int32_t c = 0; c < 3; ++c)
      channel[c] = _mm256_packus_epi16(_mm256_avg_epu16(_mm256_packus_epi32(sum[c][0], sum[c][1]), zero),
                                       _mm256_avg_epu16(_mm256_packus_epi32(sum[c][2], sum[c][3]), zero));
    lanes_store_rgb(o, channel);
  }
};
#endif

// Packed rows, as many pixels at a time as lanes take; gives how many of each row it did.
inline int32_t anaglyph_lanes(const AnaglyphArgs& p, int32_t y0, int32_t y1) {
  for (const auto& channel : p.matrix)
    for (int32_t m : channel)
      if (m < -32768 || m > 32767) return 0; // does not fit 16 bits
  const AnaglyphLanes lanes(&p.matrix[0][0]);
  const int32_t done = p.out.width / AnaglyphLanes::kPixels * AnaglyphLanes::kPixels;
  for (int32_t y = y0; y < y1; ++y) {
    const uint8_t *l = p.left.row(y), *r = p.right.row(y);
    uint8_t* o = p.out.row(y);
    for (int32_t x = 0; x < done; x += AnaglyphLanes::kPixels) lanes(l + 3 * x, r + 3 * x, o + 3 * x);
  }
  return done;
}
#endif

inline void anaglyph_rows(const AnaglyphArgs& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width;
  const bool packed = p.left.stride_c == 1 && p.left.stride_x == 3 && p.right.stride_c == 1 &&
                      p.right.stride_x == 3 && p.out.stride_c == 1 && p.out.stride_x == 3;
  const int32_t* __restrict m = &p.matrix[0][0];
  int32_t done = 0;
#if defined(__AVX2__)
  if (packed) done = anaglyph_lanes(p, y0, y1);
#endif
  for (int32_t y = y0; y < y1; ++y) {
    if (packed) {
      const uint8_t *__restrict l = p.left.row(y), *__restrict r = p.right.row(y);
      uint8_t* __restrict o = p.out.row(y);
      for (int32_t x = done; x < width; ++x) {
        const int32_t l0 = l[3 * x], l1 = l[3 * x + 1], l2 = l[3 * x + 2];
        const int32_t r0 = r[3 * x], r1 = r[3 * x + 1], r2 = r[3 * x + 2];
        const int32_t a = m[0] * l0 + m[1] * l1 + m[2] * l2 + m[3] * r0 + m[4] * r1 + m[5] * r2 + 2048;
        const int32_t b = m[6] * l0 + m[7] * l1 + m[8] * l2 + m[9] * r0 + m[10] * r1 + m[11] * r2 + 2048;
        const int32_t c = m[12] * l0 + m[13] * l1 + m[14] * l2 + m[15] * r0 + m[16] * r1 + m[17] * r2 + 2048;
        o[3 * x] = (uint8_t)clamp_i32(a >> 12, 0, 255);
        o[3 * x + 1] = (uint8_t)clamp_i32(b >> 12, 0, 255);
        o[3 * x + 2] = (uint8_t)clamp_i32(c >> 12, 0, 255);
      }
      continue;
    }
    for (int32_t x = 0; x < width; ++x)
      for (int32_t c = 0; c < 3; ++c)
        *p.out.at(y, x, c) =
            anaglyph_channel(p.matrix[c], p.left.at(y, x), p.left.stride_c, p.right.at(y, x), p.right.stride_c);
  }
}
#endif

SE_HD uint32_t anaglyph_word(const AnaglyphArgs& p, int32_t y, int32_t x) {
  const uint8_t *l = p.left.at(y, x), *r = p.right.at(y, x);
  uint32_t value = 0;
  for (int32_t c = 0; c < 3; ++c)
    value |= (uint32_t)anaglyph_channel(p.matrix[c], l, p.left.stride_c, r, p.right.stride_c) << (8 * c);
  return value;
}

// Four pixels a thread where all lies in whole words; else word by word.
struct AnaglyphBlocks : WordBlocks<AnaglyphArgs, anaglyph_word> {
  using Words = WordBlocks<AnaglyphArgs, anaglyph_word>;
  static_assert(kPiece == 4 * kThreads, "a thread has four pixels");

  SE_HD static void four(const Args& p, int32_t y, int32_t x) {
    const Word32 *l = (const Word32*)(p.left.row(y) + 3 * x), *r = (const Word32*)(p.right.row(y) + 3 * x);
    const uint32_t left[3] = {l[0], l[1], l[2]}, right[3] = {r[0], r[1], r[2]};
    uint32_t out[3] = {0, 0, 0};
#pragma unroll
    for (int32_t k = 0; k < 12; ++k) {
      const int32_t* m = p.matrix[k % 3];
      int32_t sum = 2048;
#pragma unroll
      for (int32_t c = 0; c < 3; ++c) {
        const int32_t at = k / 3 * 3 + c;
        sum += m[c] * (int32_t)(left[at / 4] >> (8 * (at % 4)) & 255u) + m[3 + c] * (int32_t)(right[at / 4] >> (8 * (at % 4)) & 255u);
      }
      out[k / 4] |= (uint32_t)clamp_i32(sum >> 12, 0, 255) << (8 * (k % 4));
    }
    Word32* to = (Word32*)(p.out.row(y) + 3 * x);
    for (int32_t k = 0; k < 3; ++k) to[k] = out[k];
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const bool words = p.out.width % 4 == 0 && rows_are_aligned(p.left, 4) && rows_are_aligned(p.right, 4) && rows_are_aligned(p.out, 4);
    if (!words) return Words::phase(k, p, b);
    const int32_t x = b.x * kPiece + 4 * b.thread;
    if (k == 0 && x < p.out.width) four(p, b.y, x);
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
