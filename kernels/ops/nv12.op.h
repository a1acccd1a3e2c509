// SPDX-License-Identifier: Apache-2.0
// nv12: a decoder's or camera's NV12 picture as RGB or RGBA.
//
// Law (class EXACT). luma: uint8 [H, W]. chroma: uint8 [ceil(H / 2), ceil(W / 2), 2], (u, v) of 2 x 2 pixels, which all
// four take as it is. With l = luma - (full ? 0 : 16), u and v less 128, and the matrix in 1/65536:
//   r = clamp((m0 l + m1 v + 32768) >> 16), g = clamp((m0 l + m2 u + m3 v + 32768) >> 16), b = clamp((m0 l + m4 u + 32768) >> 16)
// clamped to 0..255; a fourth channel is 255.
#pragma once
#include "core/block.h"
#include "core/lanes.h"
#include "core/types.h"

namespace se {

struct Nv12Args {
  View<const uint8_t> luma, chroma;
  View<uint8_t> out;
  int32_t matrix[5];
  int32_t black;  // luma of black
};

namespace SE_ISA_NAMESPACE {

// Bytes r, g, b and 255, from the lowest on.
SE_HD uint32_t nv12_pixel(const Nv12Args& p, int32_t luma, int32_t u, int32_t v) {
  const int32_t l = p.matrix[0] * (luma - p.black) + 32768, du = u - 128, dv = v - 128;
  const int32_t r = clamp_i32((l + p.matrix[1] * dv) >> 16, 0, 255);
  const int32_t g = clamp_i32((l + p.matrix[2] * du + p.matrix[3] * dv) >> 16, 0, 255);
  const int32_t b = clamp_i32((l + p.matrix[4] * du) >> 16, 0, 255);
  return (uint32_t)r | (uint32_t)g << 8 | (uint32_t)b << 16 | 0xff000000u;
}

SE_HD uint32_t nv12_at(const Nv12Args& p, int32_t y, int32_t x) {
  const uint8_t* uv = p.chroma.at(y >> 1, x >> 1);
  return nv12_pixel(p, *p.luma.at(y, x), uv[0], uv[p.chroma.stride_c]);
}

#if !defined(__CUDACC__)
#if defined(__AVX2__)
// Thirty-two pixels at a time of a row whose bytes lie side by side, C of them a pixel; gives how many it did.
template <int C>
inline int32_t nv12_lanes(const Nv12Args& p, const uint8_t* luma, const uint8_t* chroma, uint8_t* out) {
  const auto all = [](int32_t v) { return _mm256_set1_epi32(v); };
  const __m256i m0 = all(p.matrix[0]), m1 = all(p.matrix[1]), m2 = all(p.matrix[2]), m3 = all(p.matrix[3]), m4 = all(p.matrix[4]);
  const __m256i black = all(p.black), middle = all(128), half = all(32768), most = all(255), zero = _mm256_setzero_si256();
  // Of each half's sixteen bytes, the first four pixels' luma, and u and v of the first two pairs, for two pixels each.
  const __m256i pick_l = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1));
  const __m256i pick_u = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, -1, -1, 0, -1, -1, -1, 2, -1, -1, -1, 2, -1, -1, -1));
  const __m256i pick_v = _mm256_broadcastsi128_si256(_mm_setr_epi8(1, -1, -1, -1, 1, -1, -1, -1, 3, -1, -1, -1, 3, -1, -1, -1));
  int32_t x = 0;
  for (; x + 32 <= p.out.width; x += 32) {
    const __m256i l32 = _mm256_loadu_si256((const __m256i*)(luma + x)), uv32 = _mm256_loadu_si256((const __m256i*)(chroma + x));
    __m256i channel[3][4];
    for (int32_t g = 0; g < 4; ++g) {
      const __m256i four = all(0x04040404 * g);  // four pixels further; what is none stays none
      const auto take = [&](__m256i bytes, __m256i pick) { return _mm256_shuffle_epi8(bytes, _mm256_or_si256(pick, four)); };
      const __m256i du = _mm256_sub_epi32(take(uv32, pick_u), middle), dv = _mm256_sub_epi32(take(uv32, pick_v), middle);
      const __m256i l = _mm256_add_epi32(_mm256_mullo_epi32(m0, _mm256_sub_epi32(take(l32, pick_l), black)), half);
      const __m256i green = _mm256_add_epi32(_mm256_mullo_epi32(m2, du), _mm256_mullo_epi32(m3, dv));
      channel[0][g] = _mm256_srai_epi32(_mm256_add_epi32(l, _mm256_mullo_epi32(m1, dv)), 16);
      channel[1][g] = _mm256_srai_epi32(_mm256_add_epi32(l, green), 16);
      channel[2][g] = _mm256_srai_epi32(_mm256_add_epi32(l, _mm256_mullo_epi32(m4, du)), 16);
      if (C == 3) continue;
      const auto byte = [&](int32_t c) { return _mm256_min_epi32(_mm256_max_epi32(channel[c][g], zero), most); };
      const __m256i red_green = _mm256_or_si256(byte(0), _mm256_slli_epi32(byte(1), 8));
      const __m256i pixels = _mm256_or_si256(red_green, _mm256_or_si256(_mm256_slli_epi32(byte(2), 16), all((int32_t)0xff000000u)));
      _mm_storeu_si128((__m128i*)(out + 4 * (x + 4 * g)), _mm256_castsi256_si128(pixels));
      _mm_storeu_si128((__m128i*)(out + 4 * (x + 16 + 4 * g)), _mm256_extracti128_si256(pixels, 1));
    }
    if (C == 4) continue;
    __m256i bytes[3];
    for (int32_t c = 0; c < 3; ++c)
      bytes[c] = _mm256_packus_epi16(_mm256_packs_epi32(channel[c][0], channel[c][1]), _mm256_packs_epi32(channel[c][2], channel[c][3]));
    lanes_store_rgb(out + 3 * x, bytes);
  }
  return x;
}
#endif

// Pixels [x, width) of a row whose bytes lie side by side, three of them a pixel.
inline void nv12_packed(const Nv12Args& p, const uint8_t* __restrict luma, const uint8_t* __restrict chroma, uint8_t* __restrict out, int32_t x) {
  constexpr int32_t kPart = 64;
  const int32_t m0 = p.matrix[0], m1 = p.matrix[1], m2 = p.matrix[2], m3 = p.matrix[3], m4 = p.matrix[4], black = p.black;
  for (; x < p.out.width; x += kPart) {
    const int32_t n = min_i32(kPart, p.out.width - x);
    int32_t red[kPart + 1], green[kPart + 1], blue[kPart + 1];  // what a pair's chroma adds, for both pixels of it
    for (int32_t k = 0; k < n; k += 2) {
      const int32_t du = chroma[x + k] - 128, dv = chroma[x + k + 1] - 128;
      red[k] = red[k + 1] = m1 * dv;
      green[k] = green[k + 1] = m2 * du + m3 * dv;
      blue[k] = blue[k + 1] = m4 * du;
    }
    for (int32_t k = 0; k < n; ++k) {
      const int32_t l = m0 * (luma[x + k] - black) + 32768;
      out[3 * (x + k)] = (uint8_t)clamp_i32((l + red[k]) >> 16, 0, 255);
      out[3 * (x + k) + 1] = (uint8_t)clamp_i32((l + green[k]) >> 16, 0, 255);
      out[3 * (x + k) + 2] = (uint8_t)clamp_i32((l + blue[k]) >> 16, 0, 255);
    }
  }
}

inline void nv12_rows(const Nv12Args& p, int32_t y0, int32_t y1) {
  const int32_t width = p.out.width, channels = p.out.channels;
  const bool packed = p.luma.stride_x == 1 && p.chroma.stride_x == 2 && p.chroma.stride_c == 1 && p.out.stride_c == 1 && p.out.stride_x == channels;
  for (int32_t y = y0; y < y1; ++y) {
    int32_t x = 0;
#if defined(__AVX2__)
    if (packed) {
      const auto lanes = channels == 3 ? nv12_lanes<3> : nv12_lanes<4>;
      x = lanes(p, p.luma.row(y), p.chroma.row(y >> 1), p.out.row(y));
    }
#endif
    if (packed && channels == 3) {
      nv12_packed(p, p.luma.row(y), p.chroma.row(y >> 1), p.out.row(y), x);
      continue;
    }
    for (; x < width; ++x) {
      const uint32_t pixel = nv12_at(p, y, x);
      for (int32_t c = 0; c < channels; ++c) *p.out.at(y, x, c) = (uint8_t)(pixel >> (8 * c));
    }
  }
}
#endif

using Nv12Blocks = WordBlocks<Nv12Args, nv12_at>;

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
