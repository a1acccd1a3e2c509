// SPDX-License-Identifier: Apache-2.0
// 32-bit integers worked on at once, as many as a register of the instruction set holds: compilers take wider vectors apart,
// comparisons one element after another. Host only.
#pragma once
#include "core/types.h"
#if defined(__AVX2__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

#if !defined(__CUDACC__)
namespace se {

constexpr int32_t kMostLanes = 16;

namespace SE_ISA_NAMESPACE {

#if defined(__AVX512F__)
constexpr int32_t kLanes = kMostLanes;
#elif defined(__AVX2__)
constexpr int32_t kLanes = 8;
#else
constexpr int32_t kLanes = 4;
#endif
typedef int32_t Lanes __attribute__((vector_size(4 * kLanes)));
typedef float FloatLanes __attribute__((vector_size(4 * kLanes)));

SE_HD Lanes lanes_load(const int32_t* from) {
  Lanes v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
SE_HD FloatLanes lanes_load(const float* from) {
  FloatLanes v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <typename Any, typename T>
SE_HD void lanes_store(T* to, const Any& v) {
  __builtin_memcpy(to, &v, sizeof v);
}
SE_HD Lanes lanes_min(Lanes a, Lanes b) { return a < b ? a : b; }
SE_HD Lanes lanes_max(Lanes a, Lanes b) { return a < b ? b : a; }

// The first n of a vector of 1/256 pixels, as pixels. n: at most kLanes.
SE_HD void lanes_store_q8(const View<float>& out, int32_t y, int32_t x, int32_t n, Lanes q) {
  const FloatLanes pixels = __builtin_convertvector(q, FloatLanes) * 0.00390625f;
  if (n == kLanes && out.stride_x == 4) return lanes_store(out.row(y) + x, pixels);
  for (int32_t k = 0; k < n; ++k) *out.at(y, x + k) = pixels[k];
}

// Row after row is worked on, and the memory's own look-ahead begins anew with each: the next row that is read and the
// one that is written are fetched meanwhile. x: the first of kLanes pixels.
SE_HD void lanes_fetch(const View<const float>& from, int32_t next, const View<float>& out, int32_t y, int32_t x) {
  if (x >= out.width) return;
  __builtin_prefetch(from.at(next < from.height ? next : from.height - 1, x));
  __builtin_prefetch(out.at(y, x), 1);
}

#if defined(__AVX2__)
// Eight bytes from either place, one after another. Loads one by one: gathers are no faster on most processors, and many
// times slower on those that guard against "Downfall".
inline __m128i lanes_load_two(const void* first, const void* second) {
  const __m128i one = _mm_loadl_epi64((const __m128i*)first);
  return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(one), (const __m64*)second));
}

// Byte k of the 48 of sixteen pixels is a channel of pixel k / 3; both halves of a register alike.
struct alignas(32) RgbOrder {
  uint8_t from[3][3][32] = {};

  constexpr RgbOrder() {
    for (int32_t k = 0; k < 96; ++k)
      for (int32_t c = 0; c < 3; ++c) {
        const int32_t at = 16 * (k / 32) + k % 16;
        from[k / 32][c][k % 32] = at % 3 == c ? (uint8_t)(at / 3) : 0x80;
      }
  }
};

// Thirty-two packed pixels of three channels, of which the lower half of each register has the first sixteen.
inline void lanes_store_rgb(uint8_t* to, const __m256i channel[3]) {
  static constexpr RgbOrder order;
  for (int32_t v = 0; v < 3; ++v) {
    const auto part = [&](int32_t c) { return _mm256_shuffle_epi8(channel[c], _mm256_load_si256((const __m256i*)order.from[v][c])); };
    const __m256i bytes = _mm256_or_si256(_mm256_or_si256(part(0), part(1)), part(2));
    _mm_storeu_si128((__m128i*)(to + 16 * v), _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i*)(to + 48 + 16 * v), _mm256_extracti128_si256(bytes, 1));
  }
}
#endif

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
#endif
