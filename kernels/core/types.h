// SPDX-License-Identifier: Apache-2.0
// What every op header may use, on the host and on the device. No standard library here: these headers are compiled
// once per instruction set, and an inline std function built with AVX-512 could be picked by the linker for all.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "secondeye/secondeye.h"

#if defined(__CUDACC__)
#define SE_HD __host__ __device__ __forceinline__
#else
#define SE_HD inline __attribute__((always_inline))
#endif

#ifndef SE_ISA_NAMESPACE
#define SE_ISA_NAMESPACE base
#endif

namespace se {

// A typed view with strides in bytes, as in se_array.
template <typename T>
struct View {
  T* data;
  int32_t height, width, channels;
  int64_t stride_y, stride_x, stride_c;

  SE_HD T* row(int32_t y) const { return (T*)((char*)data + (int64_t)y * stride_y); }
  SE_HD T* at(int32_t y, int32_t x, int32_t c = 0) const {
    return (T*)((char*)data + (int64_t)y * stride_y + (int64_t)x * stride_x + (int64_t)c * stride_c);
  }
};

// The same pixels, right to left.
template <typename T>
inline View<T> mirrored(View<T> v) {
  v.data = (T*)((char*)v.data + (int64_t)(v.width - 1) * v.stride_x);
  v.stride_x = -v.stride_x;
  return v;
}

template <typename T>
inline View<T> view_of(const se_array& a) {
  return View<T>{(T*)a.data, a.height, a.width, a.channels, a.stride_y, a.stride_x, a.stride_c};
}

SE_HD float float_of_bits(uint32_t bits) {
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
}
SE_HD uint32_t bits_of_float(float f) {
  uint32_t bits;
  __builtin_memcpy(&bits, &f, 4);
  return bits;
}
// Disparity in 1/256 pixel: NaN and infinity are 0, the rest is clamped to +-16384 pixels and rounded half to even.
// Adding 1.5 * 2^23 rounds exactly so for |v| <= 2^22, in any SIMD width and on the device, and leaves the whole number
// in the sum's last bits.
SE_HD int32_t disparity_q8(float d) {
  if (!(d - d == 0.0f)) return 0;
  const float clamped = d < -16384.0f ? -16384.0f : (d > 16384.0f ? 16384.0f : d);
  return (int32_t)(bits_of_float(clamped * 256.0f + 12582912.0f) - 0x4b400000u);
}

// IEEE half precision, by bits: the same on every machine. NaN becomes 0x7e00; rounding is half to even.
SE_HD float half_to_float(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
  if (rest >= 0x7c00u) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // The exponent moved by a multiplication, which makes subnormals right too.
  return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 5192296858534827628530496329220096.0f));
}
SE_HD uint16_t float_to_half(float f) {
  const uint32_t bits = bits_of_float(f), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return 0x7e00u;
  if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);  // 65520 and more round to infinity
  if (rest < 0x38800000u) {                                    // subnormal: adding 0.5 rounds at its last bit
    const uint32_t sum = bits_of_float(float_of_bits(rest) + 0.5f);
    return (uint16_t)(sign | (sum - 0x3f000000u));
  }
  return (uint16_t)(sign | ((rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13));
}

SE_HD int32_t clamp_i32(int32_t v, int32_t lo, int32_t hi) { return v < lo ? lo : (v > hi ? hi : v); }
SE_HD int32_t abs_i32(int32_t v) { return v < 0 ? -v : v; }
SE_HD int32_t min_i32(int32_t a, int32_t b) { return a < b ? a : b; }
SE_HD int32_t max_i32(int32_t a, int32_t b) { return a > b ? a : b; }

#if !defined(__CUDACC__)
namespace SE_ISA_NAMESPACE {
// A row of disparities in 1/256 pixel; vectorised where they lie side by side, in either direction.
inline void disparity_row_q8(const View<const float>& d, int32_t y, int32_t* __restrict q) {
  const float* __restrict row = d.row(y);
  const int32_t width = d.width;
  if (d.stride_x == 4) {
    for (int32_t x = 0; x < width; ++x) q[x] = disparity_q8(row[x]);
  } else if (d.stride_x == -4) {
    const float* __restrict first = row - (width - 1);
    for (int32_t x = 0; x < width; ++x) q[x] = disparity_q8(first[width - 1 - x]);
  } else {
    for (int32_t x = 0; x < width; ++x) q[x] = disparity_q8(*d.at(y, x));
  }
}
}  // namespace SE_ISA_NAMESPACE
#endif

}  // namespace se
