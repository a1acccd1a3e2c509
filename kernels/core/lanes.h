// SPDX-License-Identifier: Apache-2.0
// 32-bit integers worked on at once, as many as a register of the instruction set holds: compilers take wider vectors apart,
// comparisons one element after another. Host only.
#pragma once
#include "core/types.h"

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

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
#endif
