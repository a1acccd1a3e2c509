// SPDX-License-Identifier: Apache-2.0
// warp: a picture moved by its disparity, with the holes that opens.
//
// Law (class EXACT), for the right view. q[i] = (disparity_q8(d[i]) scale + 128) >> 8, scale in 1/256 (256 for a single
// view; float16 disparity is widened first); source pixel i lands at X[i] = 256 i - q[i], in
// 1/256 pixel; target pixel t has its centre at 256 t. A row's backward map M[t] is the largest source position (in
// 1/256 pixel; -1 is a hole) that any of these gives to t:
//   surface law, with g = X[i+1] - X[i]:
//     0 < g <= tear        a piece of surface: X[i] <= 256 t < X[i+1] gives 256 i + floor(256 (256 t - X[i]) / g)
//     otherwise torn or folded, and each side ends half a pixel on: X[i] <= 256 t < X[i] + 128 gives 256 i, and
//                          X[i+1] - 128 <= 256 t < X[i+1] gives 256 (i+1)
//     the row's ends       reach half a pixel out in the same way
//   nearest law: t = trunc(i - d[i]) in float32 gives 256 i (d not finite or over 16384 is treated as above, and then
//     multiplied by scale / 256); with wrap, -W <= t < 0 means t + W.
// Larger is nearer: what lands on t from x has disparity x - t. Painting in source order with overwrite therefore
// keeps the nearest, and so would an atomic maximum in any order.
// out[t] = (p[i] (256 - f) + p[i+1] f + 128) >> 8 with i = M >> 8, f = M & 255; holes are 0. Of float pictures, every
// step rounded to float32: (p[i] (256 - f) + p[i+1] f) / 256, rounded once more for float16; NaN has one form. The left
// view is the mirror image of the right view of the mirrored picture.
#pragma once
#include "core/lanes.h"
#include "core/types.h"

namespace se {

struct WarpArgs {
  View<const uint8_t> source;   // of `dtype`; strides are in bytes, so the type of the view does not matter
  View<const float> disparity;  // of `disparity_dtype`
  View<uint8_t> out, holes;     // out of `dtype`
  View<int32_t> map;            // data may be null
  int32_t dtype, disparity_dtype;
  int32_t law, tear_q8, wrap, scale_q8;
};

// Several views of one picture; what they have in common lies in each.
struct WarpViewsArgs {
  int32_t count;
  WarpArgs views[SE_MAX_VIEWS];
};

namespace SE_ISA_NAMESPACE {

SE_HD int32_t ceil_div_256(int32_t v) { return (v + 255) >> 8; }

SE_HD float warp_disparity(const WarpArgs& p, int32_t y, int32_t x) {
  const float* d = p.disparity.at(y, x);
  return p.disparity_dtype == SE_FLOAT16 ? half_to_float(*(const uint16_t*)d) : *d;
}

// Where source pixel x lands, in 1/256 pixel.
SE_HD int32_t warp_landing(const WarpArgs& p, int32_t y, int32_t x) {
  return (x << 8) - ((disparity_q8(warp_disparity(p, y, x)) * p.scale_q8 + 128) >> 8);
}

// One channel of a float picture between pixels a and b.
SE_HD float warp_blend(float a, float b, int32_t f) {
  const float left = a * (float)(256 - f), right = b * (float)f, value = (left + right) * 0.00390625f;
  return value - value == 0.0f || value > 0.0f || value < 0.0f ? value : float_of_bits(0x7fc00000u);
}

SE_HD void warp_sample_float(const WarpArgs& p, int32_t y, int32_t t, int32_t m) {
  const int32_t i = max_i32(m, 0) >> 8, j = min_i32(i + 1, p.source.width - 1), f = m & 255;
  for (int32_t c = 0; c < p.source.channels; ++c) {
    const void *a = p.source.at(y, i, c), *b = p.source.at(y, j, c);
    void* o = p.out.at(y, t, c);
    if (p.dtype == SE_FLOAT32)
      *(float*)o = m < 0 ? 0.0f : warp_blend(*(const float*)a, *(const float*)b, f);
    else
      *(uint16_t*)o = m < 0 ? (uint16_t)0
                            : float_to_half(warp_blend(half_to_float(*(const uint16_t*)a),
                                                       half_to_float(*(const uint16_t*)b), f));
  }
}

// Gives source position s to the targets with lo <= 256 t < hi.
SE_HD void warp_paint(int32_t* map, int32_t width, int32_t lo, int32_t hi, int32_t s) {
  const int32_t t0 = max_i32(ceil_div_256(lo), 0), t1 = min_i32(ceil_div_256(hi), width);
  for (int32_t t = t0; t < t1; ++t) map[t] = s;
}

// Where the nearest law puts pixel x; anything outside [0, width) is nowhere.
SE_HD int32_t nearest_target(const WarpArgs& p, int32_t y, int32_t x) {
  float d = warp_disparity(p, y, x);
  if (!(d - d == 0.0f)) d = 0.0f;
  d = (d < -16384.0f ? -16384.0f : (d > 16384.0f ? 16384.0f : d)) * ((float)p.scale_q8 * 0.00390625f);
  const int32_t t = (int32_t)((float)x - d);
  return p.wrap != 0 && t < 0 && t >= -p.source.width ? t + p.source.width : t;
}

#if !defined(__CUDACC__)

// One piece between the landings a and b of source pixels i and i + 1.
inline void warp_piece(int32_t* __restrict map, int32_t width, int32_t tear, int32_t i, int32_t a, int32_t b) {
  const int32_t g = b - a;
  if (g > 0 && g <= tear) {
    const int32_t t0 = max_i32(ceil_div_256(a), 0), t1 = min_i32(ceil_div_256(b), width);
    for (int32_t t = t0; t < t1; ++t) map[t] = (i << 8) + (((t << 8) - a) << 8) / g;
  } else {
    warp_paint(map, width, a, a + 128, i << 8);
    warp_paint(map, width, b - 128, b, (i + 1) << 8);
  }
}

#if defined(__AVX512VBMI__)
// Sixteen pieces at once where all are surface and none covers more than one target: those targets lie side by side.
// The quotient of two integers under 2^22 and 2^14 is never rounded up to a whole number by a float division, so its
// floor is exact. Gives whether it did the work.
inline bool warp_pieces(int32_t* __restrict map, int32_t width, int32_t tear, int32_t i, const int32_t* landing) {
  const __m512i a = _mm512_loadu_si512(landing + i), b = _mm512_loadu_si512(landing + i + 1);
  const __m512i g = _mm512_sub_epi32(b, a), k255 = _mm512_set1_epi32(255);
  const __mmask16 surface = _mm512_cmpgt_epi32_mask(g, _mm512_setzero_si512()) &
                            _mm512_cmple_epi32_mask(g, _mm512_set1_epi32(tear));
  if (surface != 0xffff) return false;
  const __m512i t0 = _mm512_srai_epi32(_mm512_add_epi32(a, k255), 8);
  const __m512i t1 = _mm512_srai_epi32(_mm512_add_epi32(b, k255), 8);
  const __m512i n = _mm512_sub_epi32(t1, t0);
  if (_mm512_cmpgt_epi32_mask(n, _mm512_set1_epi32(1)) != 0) return false;
  const int32_t first = (landing[i] + 255) >> 8, last = (landing[i + 16] + 255) >> 8;
  if (first < 0 || last > width) return false;
  const __m512i into = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_slli_epi32(t0, 8), a), 8);
  const __m512 quotient = _mm512_div_ps(_mm512_cvtepi32_ps(into), _mm512_cvtepi32_ps(g));
  const __m512i index = _mm512_add_epi32(_mm512_set1_epi32(i),
                                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m512i s = _mm512_add_epi32(_mm512_slli_epi32(index, 8), _mm512_cvttps_epi32(quotient));
  const __mmask16 drawn = _mm512_cmpeq_epi32_mask(n, _mm512_set1_epi32(1));
  const __m512i together = _mm512_maskz_compress_epi32(drawn, s);
  _mm512_mask_storeu_epi32(map + first, (__mmask16)((1u << (last - first)) - 1u), together);
  return true;
}
constexpr int32_t kWarpLanes = 16;
#elif defined(__AVX2__)
// The same for eight pieces.
inline bool warp_pieces(int32_t* __restrict map, int32_t width, int32_t tear, int32_t i, const int32_t* landing) {
  const __m256i a = _mm256_loadu_si256((const __m256i*)(landing + i));
  const __m256i b = _mm256_loadu_si256((const __m256i*)(landing + i + 1));
  const __m256i g = _mm256_sub_epi32(b, a), k255 = _mm256_set1_epi32(255), zero = _mm256_setzero_si256();
  const __m256i torn = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(1), g),
                                       _mm256_cmpgt_epi32(g, _mm256_set1_epi32(tear)));
  const __m256i t0 = _mm256_srai_epi32(_mm256_add_epi32(a, k255), 8);
  const __m256i t1 = _mm256_srai_epi32(_mm256_add_epi32(b, k255), 8);
  const __m256i n = _mm256_sub_epi32(t1, t0), one = _mm256_set1_epi32(1);
  if (_mm256_movemask_epi8(_mm256_or_si256(torn, _mm256_cmpgt_epi32(n, one))) != 0) return false;
  const int32_t first = (landing[i] + 255) >> 8, last = (landing[i + 8] + 255) >> 8;
  if (first < 0 || last > width) return false;
  const __m256i into = _mm256_slli_epi32(_mm256_sub_epi32(_mm256_slli_epi32(t0, 8), a), 8);
  const __m256 quotient = _mm256_div_ps(_mm256_cvtepi32_ps(into), _mm256_cvtepi32_ps(g));
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i s = _mm256_add_epi32(_mm256_slli_epi32(_mm256_add_epi32(_mm256_set1_epi32(i), lane), 8),
                                     _mm256_cvttps_epi32(quotient));
  if (last - first == 8) {
    _mm256_storeu_si256((__m256i*)(map + first), s);
    return true;
  }
  // Bring the drawn lanes together: their numbers, eight bits each, picked out of 76543210.
  const uint32_t drawn = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(n, zero)));
  const uint64_t lanes = _pext_u64(0x0706050403020100ull, _pdep_u64(drawn, 0x0101010101010101ull) * 0xff);
  const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)lanes));
  const __m256i kept = _mm256_cmpgt_epi32(_mm256_set1_epi32(last - first), lane);
  _mm256_maskstore_epi32(map + first, kept, _mm256_permutevar8x32_epi32(s, order));
  return true;
}
constexpr int32_t kWarpLanes = 8;
#endif

inline void warp_map_surface(const WarpArgs& p, int32_t y, int32_t* __restrict landing, int32_t* __restrict map) {
  const int32_t width = p.source.width, tear = p.tear_q8, scale = p.scale_q8;
  if (p.disparity_dtype == SE_FLOAT32) {
    disparity_row_q8(p.disparity, y, landing);
    for (int32_t x = 0; x < width; ++x) landing[x] = (x << 8) - ((landing[x] * scale + 128) >> 8);
  } else {
    for (int32_t x = 0; x < width; ++x) landing[x] = warp_landing(p, y, x);
  }
  for (int32_t t = 0; t < width; ++t) map[t] = -1;
  warp_paint(map, width, landing[0] - 128, landing[0], 0);
  int32_t i = 0;
#if defined(__AVX2__)
  for (; i + kWarpLanes < width; i += kWarpLanes) {
    if (warp_pieces(map, width, tear, i, landing)) continue;
    for (int32_t k = i; k < i + kWarpLanes; ++k) warp_piece(map, width, tear, k, landing[k], landing[k + 1]);
  }
#endif
  for (; i + 1 < width; ++i) warp_piece(map, width, tear, i, landing[i], landing[i + 1]);
  const int32_t last = landing[width - 1];
  warp_paint(map, width, last, last + 128, (width - 1) << 8);
}

inline void warp_map_nearest(const WarpArgs& p, int32_t y, int32_t* __restrict map) {
  const int32_t width = p.source.width;
  for (int32_t t = 0; t < width; ++t) map[t] = -1;
  for (int32_t x = 0; x < width; ++x) {
    const int32_t t = nearest_target(p, y, x);
    if (t >= 0 && t < width) map[t] = x << 8;
  }
}

// Targets [t, end) of one row through a map; C is the channel count, or 0 when it is only known at run time.
template <int C>
inline void warp_sample(const WarpArgs& p, int32_t y, const int32_t* __restrict map, int32_t t, int32_t end) {
  const int32_t channels = C == 0 ? p.source.channels : C;
  const bool packed = C != 0;
  const uint8_t* __restrict src = p.source.row(y);
  const int64_t step = packed ? (p.source.stride_x < 0 ? -C : C) : p.source.stride_x;
  const int64_t step_c = packed ? 1 : p.source.stride_c;
  const int64_t last = p.source.width - 1;
  for (; t < end; ++t) {
    uint8_t* o = p.out.at(y, t);
    const int64_t oc = packed ? 1 : p.out.stride_c;
    const int32_t m = map[t];
    if (m < 0) {
      for (int32_t c = 0; c < channels; ++c) o[c * oc] = 0;
      continue;
    }
    const int32_t i = m >> 8, f = m & 255;
    const uint8_t* a = src + i * step;
    const uint8_t* b = src + (i < last ? i + 1 : i) * step;
    for (int32_t c = 0; c < channels; ++c)
      o[c * oc] = (uint8_t)((a[c * step_c] * (256 - f) + b[c * step_c] * f + 128) >> 8);
  }
}

#if defined(__AVX512VBMI__)
// Sixteen targets of a packed row of C channels, 3 or 4: each pixel and its neighbour in one 8-byte gather. Rows that run
// backward (Mirror) are taken from their other end: src and out are where they begin in memory, map is that of the same
// targets, the last of them first, and between two pixels the shares are exchanged. Needs every position at least
// three pixels from the row's end. Gives whether it did the work.
template <int C, bool Mirror>
inline bool warp_sample_lanes(const uint8_t* __restrict src, int32_t width, const int32_t* map, uint8_t* __restrict out) {
  __m512i m = _mm512_loadu_si512(map);
  if (Mirror)
    m = _mm512_permutexvar_epi32(_mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), m);
  const __mmask16 seen = _mm512_cmpge_epi32_mask(m, _mm512_setzero_si512());
  __m512i i = _mm512_srai_epi32(m, 8), f = _mm512_and_si512(m, _mm512_set1_epi32(255));
  if (Mirror) {
    i = _mm512_sub_epi32(_mm512_set1_epi32(width - 2), i);
    f = _mm512_sub_epi32(_mm512_set1_epi32(256), f);
    if (_mm512_mask_cmplt_epi32_mask(seen, i, _mm512_setzero_si512()) != 0) return false;
  }
  if (_mm512_mask_cmpgt_epi32_mask(seen, i, _mm512_set1_epi32(width - 3)) != 0) return false;
  const __m512i offset = C == 4 ? _mm512_maskz_slli_epi32(seen, i, 2)
                                : _mm512_maskz_add_epi32(seen, i, _mm512_slli_epi32(i, 1));
  const __m512i lo = _mm512_i32gather_epi64(_mm512_castsi512_si256(offset), src, 1);
  const __m512i hi = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(offset, 1), src, 1);
  // Each target's bytes of the pixel, and of its neighbour, in the low bytes of a 32-bit lane.
  __m512i a, b;
  if (C == 4) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    a = _mm512_permutex2var_epi32(lo, even, hi);
    b = _mm512_permutex2var_epi32(lo, _mm512_add_epi32(even, _mm512_set1_epi32(1)), hi);
  } else {
    alignas(64) static const uint8_t pick[64] = {
        0,  1,  2,  0x80, 8,  9,  10, 0x80, 16, 17, 18, 0x80, 24, 25, 26, 0x80, 32, 33, 34, 0x80, 40,  41,
        42, 0x80, 48, 49, 50, 0x80, 56, 57, 58, 0x80, 64, 65, 66, 0x80, 72, 73, 74, 0x80, 80, 81, 82, 0x80,
        88, 89, 90, 0x80, 96, 97, 98, 0x80, 104, 105, 106, 0x80, 112, 113, 114, 0x80, 120, 121, 122, 0x80};
    const __m512i first = _mm512_load_si512(pick);
    a = _mm512_permutex2var_epi8(lo, first, hi);
    b = _mm512_permutex2var_epi8(lo, _mm512_add_epi8(first, _mm512_set1_epi8(3)), hi);
  }
  const __m512i bytes = _mm512_set1_epi32(0x00ff00ff), wb = _mm512_or_si512(f, _mm512_slli_epi32(f, 16));
  const __m512i wa = _mm512_sub_epi16(_mm512_set1_epi16(256), wb), half = _mm512_set1_epi16(128);
  const __m512i even = _mm512_srli_epi16(
      _mm512_add_epi16(_mm512_add_epi16(_mm512_mullo_epi16(_mm512_and_si512(a, bytes), wa),
                                        _mm512_mullo_epi16(_mm512_and_si512(b, bytes), wb)), half), 8);
  const __m512i odd = _mm512_srli_epi16(
      _mm512_add_epi16(_mm512_add_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(a, 8), wa),
                                        _mm512_mullo_epi16(_mm512_srli_epi16(b, 8), wb)), half), 8);
  const __m512i blend = _mm512_maskz_mov_epi32(seen, _mm512_or_si512(even, _mm512_slli_epi16(odd, 8)));
  if (C == 4) {
    _mm512_storeu_si512(out, blend);
    return true;
  }
  alignas(64) static const uint8_t drop[64] = {
      0,  1,  2,  4,  5,  6,  8,  9,  10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30,
      32, 33, 34, 36, 37, 38, 40, 41, 42, 44, 45, 46, 48, 49, 50, 52, 53, 54, 56, 57, 58, 60, 61, 62};
  _mm512_mask_storeu_epi8(out, 0xffffffffffffull, _mm512_permutexvar_epi8(_mm512_load_si512(drop), blend));
  return true;
}
#elif defined(__AVX2__)
// The same for eight targets.
template <int C, bool Mirror>
inline bool warp_sample_lanes(const uint8_t* __restrict src, int32_t width, const int32_t* map, uint8_t* __restrict out) {
  __m256i m = _mm256_loadu_si256((const __m256i*)map);
  if (Mirror) m = _mm256_permutevar8x32_epi32(m, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
  const __m256i hole = _mm256_cmpgt_epi32(_mm256_setzero_si256(), m);
  __m256i i = _mm256_srai_epi32(m, 8), f = _mm256_and_si256(m, _mm256_set1_epi32(255));
  __m256i out_of_reach = _mm256_cmpgt_epi32(i, _mm256_set1_epi32(width - 3));
  if (Mirror) {
    i = _mm256_sub_epi32(_mm256_set1_epi32(width - 2), i);
    f = _mm256_sub_epi32(_mm256_set1_epi32(256), f);
    out_of_reach = _mm256_or_si256(_mm256_cmpgt_epi32(i, _mm256_set1_epi32(width - 3)),
                                   _mm256_cmpgt_epi32(_mm256_setzero_si256(), i));
  }
  if (_mm256_movemask_epi8(_mm256_andnot_si256(hole, out_of_reach)) != 0) return false;
  const __m256i offset =
      _mm256_andnot_si256(hole, C == 4 ? _mm256_slli_epi32(i, 2) : _mm256_add_epi32(i, _mm256_slli_epi32(i, 1)));
  alignas(32) int32_t at[8];
  _mm256_store_si256((__m256i*)at, offset);
  const auto two = [&](int32_t k) { return lanes_load_two(src + at[k], src + at[k + 1]); };
  const __m256i lo = _mm256_inserti128_si256(_mm256_castsi128_si256(two(0)), two(2), 1);
  const __m256i hi = _mm256_inserti128_si256(_mm256_castsi128_si256(two(4)), two(6), 1);
  // In each half: the two pixels' bytes, then their neighbours', a 32-bit lane each.
  const __m256i split3 = _mm256_setr_epi8(0, 1, 2, -1, 8, 9, 10, -1, 3, 4, 5, -1, 11, 12, 13, -1, 0, 1, 2, -1, 8, 9, 10,
                                          -1, 3, 4, 5, -1, 11, 12, 13, -1);
  const __m256i split4 = _mm256_setr_epi8(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15, 0, 1, 2, 3, 8, 9, 10,
                                          11, 4, 5, 6, 7, 12, 13, 14, 15);
  const __m256i split = C == 4 ? split4 : split3;
  const __m256i l = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(lo, split), 0xd8);
  const __m256i h = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(hi, split), 0xd8);
  const __m256i a = _mm256_permute2x128_si256(l, h, 0x20), b = _mm256_permute2x128_si256(l, h, 0x31);
  const __m256i bytes = _mm256_set1_epi32(0x00ff00ff), half = _mm256_set1_epi16(128);
  const __m256i wb = _mm256_or_si256(f, _mm256_slli_epi32(f, 16));
  const __m256i wa = _mm256_sub_epi16(_mm256_set1_epi16(256), wb);
  const __m256i even = _mm256_srli_epi16(
      _mm256_add_epi16(_mm256_add_epi16(_mm256_mullo_epi16(_mm256_and_si256(a, bytes), wa),
                                        _mm256_mullo_epi16(_mm256_and_si256(b, bytes), wb)), half), 8);
  const __m256i odd = _mm256_srli_epi16(
      _mm256_add_epi16(_mm256_add_epi16(_mm256_mullo_epi16(_mm256_srli_epi16(a, 8), wa),
                                        _mm256_mullo_epi16(_mm256_srli_epi16(b, 8), wb)), half), 8);
  const __m256i blend = _mm256_andnot_si256(hole, _mm256_or_si256(even, _mm256_slli_epi16(odd, 8)));
  if (C == 4) {
    _mm256_storeu_si256((__m256i*)out, blend);
    return true;
  }
  const __m256i drop = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, 0, 1, 2, 4, 5, 6, 8, 9,
                                        10, 12, 13, 14, -1, -1, -1, -1);
  const __m256i packed = _mm256_shuffle_epi8(blend, drop);
  const __m128i second = _mm256_extracti128_si256(packed, 1);
  _mm_storeu_si128((__m128i*)out, _mm256_castsi256_si128(packed));  // its last four bytes are written over at once
  _mm_storel_epi64((__m128i*)(out + 12), second);
  const int32_t rest = _mm_extract_epi32(second, 2);
  __builtin_memcpy(out + 20, &rest, 4);
  return true;
}
#endif

// A packed row of C channels, 3 or 4.
template <int C>
inline void warp_sample_packed(const WarpArgs& p, int32_t y, const int32_t* __restrict map) {
  int32_t width = p.out.width;
  int32_t t = 0;
#if defined(__AVX2__)
  if (p.source.stride_x == C && p.out.stride_x == C) {
    for (; t + kWarpLanes <= width; t += kWarpLanes)
      if (!warp_sample_lanes<C, false>(p.source.row(y), width, map + t, p.out.row(y) + C * (int64_t)t))
        warp_sample<C>(p, y, map, t, t + kWarpLanes);
  } else if (p.source.stride_x == -C && p.out.stride_x == -C) {
    const uint8_t* src = p.source.at(y, width - 1);
    const int32_t whole = width;
    for (uint8_t* out = p.out.at(y, width - 1); width >= kWarpLanes; out += C * kWarpLanes) {
      width -= kWarpLanes;  // from the last target to the first
      if (!warp_sample_lanes<C, true>(src, whole, map + width, out))
        warp_sample<C>(p, y, map, width, width + kWarpLanes);
    }
  }
#endif
  warp_sample<C>(p, y, map, t, width);
}

// A row of a float picture, plane by plane. scratch: width float.
inline void warp_sample_floats(const WarpArgs& p, int32_t y, const int32_t* __restrict map, float* __restrict scratch) {
  const int32_t width = p.out.width, last = width - 1;
  const bool wide = p.dtype == SE_FLOAT32;
  for (int32_t c = 0; c < p.source.channels; ++c) {
    const float* __restrict row = (const float*)p.source.at(y, 0, c);
    if (!wide || p.source.stride_x != 4) {
      if (wide)
        for (int32_t x = 0; x < width; ++x) scratch[x] = *(const float*)p.source.at(y, x, c);
      else if (p.source.stride_x == 2)
        for (int32_t x = 0; x < width; ++x) scratch[x] = half_to_float(((const uint16_t*)row)[x]);
      else
        for (int32_t x = 0; x < width; ++x) scratch[x] = half_to_float(*(const uint16_t*)p.source.at(y, x, c));
      row = scratch;
    }
    const auto value = [&](int32_t t) {
      const int32_t m = map[t], i = max_i32(m, 0) >> 8;
      return m < 0 ? 0.0f : warp_blend(row[i], row[min_i32(i + 1, last)], m & 255);
    };
    void* out = p.out.at(y, 0, c);
    if (wide && p.out.stride_x == 4)
      for (int32_t t = 0; t < width; ++t) ((float*)out)[t] = value(t);
    else if (wide)
      for (int32_t t = 0; t < width; ++t) *(float*)p.out.at(y, t, c) = value(t);
    else if (p.out.stride_x == 2)
      for (int32_t t = 0; t < width; ++t) ((uint16_t*)out)[t] = float_to_half(value(t));
    else
      for (int32_t t = 0; t < width; ++t) *(uint16_t*)p.out.at(y, t, c) = float_to_half(value(t));
  }
}

// Writes what a row's map says of its holes, and the map itself where it is wanted and not there yet.
inline void warp_tell(const WarpArgs& p, int32_t y, const int32_t* __restrict map) {
  const int32_t width = p.out.width, last = width - 1;
  if (p.holes.stride_x == 1) {
    uint8_t* __restrict holes = p.holes.row(y);
    for (int32_t t = 0; t < width; ++t) holes[t] = map[t] < 0 ? 255 : 0;
  } else if (p.holes.stride_x == -1) {
    uint8_t* __restrict holes = p.holes.at(y, last);
    for (int32_t t = 0; t < width; ++t) holes[t] = map[last - t] < 0 ? 255 : 0;
  } else {
    for (int32_t t = 0; t < width; ++t) *p.holes.at(y, t) = map[t] < 0 ? 255 : 0;
  }
  if (p.map.data == nullptr || map == p.map.row(y)) return;
  if (p.map.stride_x == -4) {
    int32_t* __restrict out = p.map.at(y, last);
    for (int32_t t = 0; t < width; ++t) out[t] = map[last - t];
  } else {
    for (int32_t t = 0; t < width; ++t) *p.map.at(y, t) = map[t];
  }
}

inline void warp_row(const WarpArgs& p, int32_t y, int32_t* scratch) {
  const int32_t width = p.source.width, channels = p.source.channels;
  const int64_t ax = p.source.stride_x < 0 ? -p.source.stride_x : p.source.stride_x;
  const int64_t ox = p.out.stride_x < 0 ? -p.out.stride_x : p.out.stride_x;
  const bool packed = p.source.stride_c == 1 && p.out.stride_c == 1 && ax == channels && ox == channels;
  // Straight into the caller's plane where its pixels lie side by side.
  int32_t* map = p.map.data != nullptr && p.map.stride_x == 4 ? p.map.row(y) : scratch + width;
  if (p.law == SE_WARP_SURFACE)
    warp_map_surface(p, y, scratch, map);
  else
    warp_map_nearest(p, y, map);
  if (p.dtype != SE_UINT8)
    warp_sample_floats(p, y, map, (float*)scratch);  // the landings are done with
  else if (packed && channels == 3)
    warp_sample_packed<3>(p, y, map);
  else if (packed && channels == 4)
    warp_sample_packed<4>(p, y, map);
  else
    warp_sample<0>(p, y, map, 0, width);
  warp_tell(p, y, map);
}

// scratch: 2 * width int32. All views of a row while it is at hand.
inline void warp_rows(const WarpViewsArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t k = 0; k < p.count; ++k) warp_row(p.views[k], y, scratch);
}
#endif

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
