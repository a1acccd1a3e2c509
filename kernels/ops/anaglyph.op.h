// SPDX-License-Identifier: Apache-2.0
// anaglyph: both views in one picture, told apart by colour.
//
// Law (class EXACT). left, right: uint8 [H, W, 3]. out[c] = clamp((sum_k m[c][k] left[k] + m[c][3 + k] right[k] + 2048)
// >> 12, 0, 255), m the matrix in 1/4096, applied to sRGB values as they are (as Dubois's published matrices are used
// by every common viewer).
#pragma once
#include "core/block.h"
#include "core/types.h"
#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

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
#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
// Where bytes go on their way into lanes and back.
struct alignas(64) AnaglyphOrder {
  // A pixel's six values in three pairs: (l0, l1), (l2, r0), (r1, r2). Bytes 0..63 are the left's, 64..127 the right's.
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

// Sixty-four pixels at a time of packed rows; gives how many of each row it did. Coefficients have to fit 16 bits.
inline int32_t anaglyph_lanes(const AnaglyphArgs& p, int32_t y0, int32_t y1) {
  static constexpr AnaglyphOrder order;
  const int32_t width = p.out.width, *m = &p.matrix[0][0];
  const auto &pick = order.pick, &weave = order.weave;
  const uint64_t* third = order.third;
  for (int32_t k = 0; k < 18; ++k)
    if (m[k] < -32768 || m[k] > 32767) return 0;
  __m512i weight[3][3];
  for (int32_t c = 0; c < 3; ++c)
    for (int32_t pair = 0; pair < 3; ++pair)
      weight[c][pair] = _mm512_set1_epi32((m[6 * c + 2 * pair] & 0xffff) |
                                          (int32_t)((uint32_t)m[6 * c + 2 * pair + 1] << 16));
  const __m512i p0 = _mm512_load_si512(pick[0]), p1 = _mm512_load_si512(pick[1]), p2 = _mm512_load_si512(pick[2]);
  const __m512i half = _mm512_set1_epi32(2048);
  const __mmask64 low = 0x5555555555555555ull, bytes = 0xffffffffffffull;
  for (int32_t y = y0; y < y1; ++y) {
    const uint8_t *l = p.left.row(y), *r = p.right.row(y);
    uint8_t* o = p.out.row(y);
    for (int32_t x = 0; x + 64 <= width; x += 64, l += 192, r += 192, o += 192) {
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
        const __m512i index = _mm512_load_si512(weave[v]);
        const __m512i two = _mm512_permutex2var_epi8(channel[0], index, channel[1]);
        _mm512_storeu_si512(o + 64 * v, _mm512_mask_permutexvar_epi8(two, (__mmask64)third[v], index, channel[2]));
      }
    }
  }
  return width & ~63;
}
#endif

inline void anaglyph_rows(const AnaglyphArgs& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width;
  const bool packed = p.left.stride_c == 1 && p.left.stride_x == 3 && p.right.stride_c == 1 &&
                      p.right.stride_x == 3 && p.out.stride_c == 1 && p.out.stride_x == 3;
  const int32_t* __restrict m = &p.matrix[0][0];
  int32_t done = 0;
#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
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
