// SPDX-License-Identifier: Apache-2.0
// net: the layers of small convolutional networks (net/network.h), over planes of floats. Host only.
//
// Law (class NET). An output is its bias, to which the products are added one after another in the order (channel, row,
// column), each by a fused multiply-add where the instruction set has it; then clamped to [low, high]; then `add` is added. So bytes
// depend neither on threads nor on how wide registers are; base, which has no such instruction, rounds products too.
//
// Planes: rows lie one behind the other; kPlaneSlack floats behind the last pixel belong to the plane and may be written.
#pragma once
#include "core/lanes.h"
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace se {

constexpr int32_t kPlaneSlack = kMostLanes;  // beside rounding pixels up to as many

// 1 x 1. A task: `chunk` pixels of one tile of outputs; or with pack, of all of them.
struct NetPoint {
  const float* in;
  int64_t in_plane;
  float* out;
  int64_t out_plane;
  const float* add;  // of the output's shape, or null
  int64_t add_plane;
  const float *weights, *bias;  // weights: [tile][inputs][channels of the tile]
  int32_t inputs, outputs, pixels, chunk;
  float low, high;
  bool pack;
};

// What layers with windows share. Inputs outside the picture are 0.
struct NetWindow {
  int32_t in_height, in_width, out_height, out_width, kernel, stride, top, left;
  int32_t rows;  // outputs' rows in a task
};

// A channel by itself. With expand.in the input is made from it on the way, and a task is `rows` rows of a tile of channels; with
// project.out the output goes into that layer and nowhere else, and a task is `rows` rows of all channels. Not both.
struct NetDepth {
  NetPoint expand, project;
  const float* in;
  int64_t in_plane;
  float* out;
  int64_t out_plane;
  const float *weights, *bias;  // weights: [channel][kernel][kernel]
  int32_t channels;
  NetWindow window;
  float low, high;
};

// All channels from all. A task: `rows` rows of all outputs.
struct NetDense {
  const float* in;
  int64_t in_plane;
  float* out;
  int64_t out_plane;
  const float* add;
  int64_t add_plane;
  const float *weights, *bias;  // weights: [tile][inputs][kernel][kernel][channels of the tile]
  int32_t inputs, outputs;
  NetWindow window;
  float low, high;
};

// Twice as wide and high, bilinear between the pixels' centres (ONNX's half_pixel). A task: `rows` rows of one channel's input.
struct NetEnlarge {
  const float* in;
  int64_t in_plane;
  float* out;
  int64_t out_plane;
  int32_t channels, height, width, rows;
};

// Shapes of tasks, which the network's planner asks for.
struct NetTable {
  int32_t tile;  // output channels that are worked on at once
  void (*point_tasks)(const NetPoint& args, int32_t i0, int32_t i1, float* scratch);
  void (*depth_tasks)(const NetDepth& args, int32_t i0, int32_t i1, float* scratch);
  void (*dense_tasks)(const NetDense& args, int32_t i0, int32_t i1, float* scratch);
  void (*enlarge_tasks)(const NetEnlarge& args, int32_t i0, int32_t i1, float* scratch);
};

SE_HD int32_t net_ceil(int32_t a, int32_t b) { return (a + b - 1) / b; }
// Floats of one row with its borders: even columns, then odd ones, for a stride of 2.
SE_HD int32_t net_row(const NetWindow& w) { return (net_ceil(w.out_width, 2 * kMostLanes) * 2 + 1) * kMostLanes; }
SE_HD int32_t net_rows_in(const NetWindow& w) { return (w.rows - 1) * w.stride + w.kernel; }
// Bytes of scratch memory.
SE_HD int64_t net_scratch(const NetPoint& a) { return a.pack ? 4 * (int64_t)a.inputs * 3 * kMostLanes : 0; }
SE_HD int64_t net_made_plane(const NetDepth& a) {
  const NetWindow& w = a.window;
  const int64_t pixels = a.expand.in != nullptr ? (int64_t)net_rows_in(w) * w.in_width : (int64_t)w.rows * w.out_width;
  return (pixels + kMostLanes - 1) / kMostLanes * kMostLanes + kPlaneSlack;
}
SE_HD int64_t net_scratch(const NetDepth& a, int32_t tile) {
  const int64_t padded = (int64_t)net_rows_in(a.window) * a.window.stride * net_row(a.window);
  const int64_t planes = a.expand.in != nullptr ? tile : a.project.out != nullptr ? a.channels : 0;
  return 4 * (padded + planes * net_made_plane(a) + kMostLanes);
}
SE_HD int64_t net_scratch(const NetDense& a) {
  return 4 * (int64_t)a.inputs * net_rows_in(a.window) * a.window.stride * net_row(a.window);
}
SE_HD int64_t net_scratch(const NetEnlarge& a) { return 4 * ((int64_t)a.width + 2 * kMostLanes + 2); }

#if defined(SE_NET_TABLE)
namespace SE_ISA_NAMESPACE {

#if defined(__AVX512F__)
constexpr int32_t kNetTile = 8, kNetSums = 24;  // registers that hold sums
inline FloatLanes net_all(float v) { return (FloatLanes)_mm512_set1_ps(v); }
inline FloatLanes net_sum(FloatLanes a, FloatLanes b, FloatLanes c) { return (FloatLanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline FloatLanes net_clamp(FloatLanes v, FloatLanes low, FloatLanes high) {
  return (FloatLanes)_mm512_min_ps(_mm512_max_ps((__m512)v, (__m512)low), (__m512)high);
}
#elif defined(__AVX2__)
constexpr int32_t kNetTile = 4, kNetSums = 12;
inline FloatLanes net_all(float v) { return (FloatLanes)_mm256_set1_ps(v); }
inline FloatLanes net_sum(FloatLanes a, FloatLanes b, FloatLanes c) { return (FloatLanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
inline FloatLanes net_clamp(FloatLanes v, FloatLanes low, FloatLanes high) {
  return (FloatLanes)_mm256_min_ps(_mm256_max_ps((__m256)v, (__m256)low), (__m256)high);
}
#else
#if defined(__ARM_NEON)
constexpr int32_t kNetTile = 8, kNetSums = 24;
inline FloatLanes net_sum(FloatLanes a, FloatLanes b, FloatLanes c) { return (FloatLanes)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
constexpr int32_t kNetTile = 4, kNetSums = 8;
inline FloatLanes net_sum(FloatLanes a, FloatLanes b, FloatLanes c) { return a * b + c; }
#endif
inline FloatLanes net_all(float v) { return FloatLanes{v, v, v, v}; }
inline FloatLanes net_clamp(FloatLanes v, FloatLanes low, FloatLanes high) {
  v = v > low ? v : low;  // as max and min of the other instruction sets: what is not a number becomes low
  return v < high ? v : high;
}
#endif

// The first n. n: over 0.
inline void net_store(float* to, FloatLanes v, int32_t n) {
  if (n >= kLanes) return lanes_store(to, v);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1), (__m512)v);
#else
  for (int32_t k = 0; k < n; ++k) to[k] = v[k];
#endif
}

// Vectors of pixels that go with R sums each.
constexpr int32_t net_vectors(int32_t r) { return kNetSums / r > 8 ? 8 : kNetSums / r; }

#if defined(__ARM_NEON)
// N weights, four to a register, from which fmla takes one: for a register each there is no room beside the sums.
template <int N>
struct NetFours {
  FloatLanes fours[N / 4 + 1];

  inline explicit NetFours(const float* from) {
#pragma GCC unroll 8
    for (int32_t k = 0; k < N / 4; ++k) fours[k] = lanes_load(from + 4 * k);
    fours[N / 4] = FloatLanes{N % 4 > 0 ? from[N / 4 * 4] : 0, N % 4 > 1 ? from[N / 4 * 4 + 1] : 0, N % 4 > 2 ? from[N / 4 * 4 + 2] : 0, 0};
  }
  // Before a use in a loop: compilers spread weights over registers ahead of it else.
  inline void hold() {
#pragma GCC unroll 8
    for (int32_t k = 0; k < (N + 3) / 4; ++k) __asm__("" : "+w"(fours[k]));
  }
  inline FloatLanes operator[](int32_t k) const { return net_all(fours[k / 4][k % 4]); }
};
#endif

// R outputs of V vectors of pixels, as they are added up. All loops over them are unrolled whole: they lie in memory else.
template <int R, int V>
SE_HD void sums_begin(FloatLanes (&sums)[R][V], const float* bias) {
#pragma GCC unroll 8
  for (int32_t r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int32_t v = 0; v < V; ++v) sums[r][v] = net_all(bias[r]);
}
template <int R, int V>
SE_HD void sums_add(FloatLanes (&sums)[R][V], const float* from, const float* weights) {
#if defined(__ARM_NEON)
  NetFours<R> w(weights);
  w.hold();
#pragma GCC unroll 8
  for (int32_t v = 0; v < V; ++v) {
    const FloatLanes x = lanes_load(from + v * kLanes);
#pragma GCC unroll 8
    for (int32_t r = 0; r < R; ++r) sums[r][v] = net_sum(x, w[r], sums[r][v]);
  }
#else
  FloatLanes x[V];
  for (int32_t v = 0; v < V; ++v) x[v] = lanes_load(from + v * kLanes);
  for (int32_t r = 0; r < R; ++r) {
    const FloatLanes w = net_all(weights[r]);
    for (int32_t v = 0; v < V; ++v) sums[r][v] = net_sum(x[v], w, sums[r][v]);
  }
#endif
}

template <int R, int V>
inline void point_sums(const NetPoint& a, int32_t first, const float* from, int64_t stride, const float* weights, float* out,
                       int64_t out_plane, int32_t p) {
  FloatLanes sums[R][V];
  sums_begin(sums, a.bias + first);
  for (int32_t k = 0; k < a.inputs; ++k, from += stride, weights += R) sums_add(sums, from, weights);
  const FloatLanes low = net_all(a.low), high = net_all(a.high);
#pragma GCC unroll 8
  for (int32_t r = 0; r < R; ++r) {
    const float* add = a.add != nullptr ? a.add + (first + r) * a.add_plane + p : nullptr;
#pragma GCC unroll 8
    for (int32_t v = 0; v < V; ++v) {
      FloatLanes y = net_clamp(sums[r][v], low, high);
      if (add != nullptr) y = y + lanes_load(add + v * kLanes);
      lanes_store(out + r * out_plane + v * kLanes, y);
    }
  }
}

// R outputs of n pixels (rounded up to whole vectors). from: the first pixel's inputs; out: where the first output's go; p: the first pixel.
template <int R>
inline void point_tile(const NetPoint& a, int32_t first, const float* from, int64_t stride, float* out, int64_t out_plane, int32_t p, int32_t n) {
  constexpr int32_t V = net_vectors(R);
  const float* weights = a.weights + (int64_t)first * a.inputs;
  int32_t x = 0;
  for (; x + (V - 1) * kLanes < n; x += V * kLanes) point_sums<R, V>(a, first, from + x, stride, weights, out + x, out_plane, p + x);
  for (; x < n; x += kLanes) point_sums<R, 1>(a, first, from + x, stride, weights, out + x, out_plane, p + x);
}

template <int R>
struct NetCount {
  static constexpr int32_t value = R;
};

// Calls f with the number of channels that are left, at most a tile, as a constant.
template <typename F, int R = kNetTile>
inline void with_tile(int32_t channels, const F& f) {
  if constexpr (R == 1) {
    f(NetCount<1>{});
  } else if (channels >= R) {
    f(NetCount<R>{});
  } else {
    with_tile<F, R - 1>(channels, f);
  }
}

inline void point_tasks(const NetPoint& a, int32_t i0, int32_t i1, float* scratch) {
  constexpr int32_t kWide = net_vectors(kNetTile) * kLanes;
  const int32_t chunks = net_ceil(a.pixels, a.chunk);
  for (int32_t i = i0; i < i1; ++i) {
    const int32_t p0 = i % chunks * a.chunk, p1 = min_i32(a.pixels, p0 + a.chunk);
    if (!a.pack) {
      const int32_t first = i / chunks * kNetTile;
      with_tile(a.outputs - first, [&](auto count) {
        point_tile<decltype(count)::value>(a, first, a.in + p0, a.in_plane, a.out + first * a.out_plane + p0, a.out_plane, p0, p1 - p0);
      });
      continue;
    }
    // Planes lie far apart: what all tiles read is laid side by side once.
    for (int32_t p = p0; p < p1; p += kWide) {
      const int32_t n = min_i32(kWide, p1 - p);
      for (int32_t k = 0; k < a.inputs; ++k)
        for (int32_t x = 0; x < n; x += kLanes) lanes_store(scratch + (int64_t)k * kWide + x, lanes_load(a.in + k * a.in_plane + p + x));
      for (int32_t first = 0; first < a.outputs; first += kNetTile) {
        with_tile(a.outputs - first, [&](auto count) {
          point_tile<decltype(count)::value>(a, first, scratch, kWide, a.out + first * a.out_plane + p, a.out_plane, p, n);
        });
      }
    }
  }
}

inline void net_zero(float* to, int32_t n) {
  if (n > 0) __builtin_memset(to, 0, sizeof(float) * n);
}

// A row with its borders; with a stride of 2 its even columns, then its odd ones. row: null outside the picture.
inline void net_pad_row(const NetWindow& w, const float* row, float* to) {
  const int32_t half = net_row(w), width = w.in_width;
  if (row == nullptr) return net_zero(to, half * w.stride);
  if (w.stride == 1) {
    const int32_t n = min_i32(width, half - w.left);
    net_zero(to, w.left);
    __builtin_memcpy(to + w.left, row, sizeof(float) * n);
    return net_zero(to + w.left + n, half - w.left - n);
  }
  // Column j stands at j + left; what no output reads is left out.
  float* const first = to + (w.left % 2) * half + w.left / 2;
  float* const second = to + (w.left + 1) % 2 * half + (w.left + 1) / 2;
  const int32_t room = half - (w.left + 1) / 2, firsts = min_i32((width + 1) / 2, half - w.left / 2), seconds = min_i32(width / 2, room);
  net_zero(to, w.left);
  net_zero(to + half, w.left);
  const int32_t pairs = firsts < seconds ? firsts : seconds;
  for (int32_t k = 0; k < pairs; ++k) {
    first[k] = row[2 * k];
    second[k] = row[2 * k + 1];
  }
  if (firsts > pairs) first[pairs] = row[2 * pairs];
  net_zero(first + firsts, (int32_t)(to + (w.left % 2 + 1) * half - first) - firsts);
  net_zero(second + seconds, (int32_t)(to + ((w.left + 1) % 2 + 1) * half - second) - seconds);
}

// Where column j of a window begins in such a row.
SE_HD int32_t net_tap(int32_t stride, int32_t half, int32_t j) { return stride == 1 ? j : (j % 2) * half + j / 2; }

// The rows that outputs [y0, y1) read, with their borders. rows: those of a plane from its row `first` on.
inline void net_pad_rows(const NetWindow& w, const float* rows, int32_t first, int32_t y0, int32_t y1, float* to) {
  const int32_t from = y0 * w.stride - w.top, end = (y1 - 1) * w.stride - w.top + w.kernel;
  for (int32_t r = from; r < end; ++r, to += net_row(w) * w.stride)
    net_pad_row(w, r >= 0 && r < w.in_height ? rows + (int64_t)(r - first) * w.in_width : nullptr, to);
}

// Y rows at once: what they read of a row is loaded once.
template <int K, int S, int Y>
inline void depth_rows(const NetDepth& a, int32_t c, const float* padded, float* out) {
  const NetWindow& w = a.window;
  const int32_t half = net_row(w), line = half * S, width = w.out_width;
  const FloatLanes bias = net_all(a.bias[c]), low = net_all(a.low), high = net_all(a.high);
#if defined(__ARM_NEON)
  NetFours<K * K> weights(a.weights + c * K * K);
#else
  FloatLanes weights[K * K];
  for (int32_t k = 0; k < K * K; ++k) weights[k] = net_all(a.weights[c * K * K + k]);
#endif
  for (int32_t x = 0; x < width; x += kLanes) {
#if defined(__ARM_NEON)
    weights.hold();
#endif
    FloatLanes sums[Y];
#pragma GCC unroll 8
    for (int32_t y = 0; y < Y; ++y) sums[y] = bias;
#pragma GCC unroll 16
    for (int32_t r = 0; r < (Y - 1) * S + K; ++r) {
      const float* row = padded + r * line + x;
#pragma GCC unroll 8
      for (int32_t j = 0; j < K; ++j) {
        const FloatLanes value = lanes_load(row + net_tap(S, half, j));
#pragma GCC unroll 8
        for (int32_t y = 0; y < Y; ++y)
          if (r - S * y >= 0 && r - S * y < K) sums[y] = net_sum(value, weights[(r - S * y) * K + j], sums[y]);
      }
    }
#pragma GCC unroll 8
    for (int32_t y = 0; y < Y; ++y) net_store(out + (int64_t)y * width + x, net_clamp(sums[y], low, high), width - x);
  }
}

// A channel's next `rows` rows, of padded ones.
template <int K, int S>
inline void depth_band(const NetDepth& a, int32_t c, const float* padded, int32_t rows, float* out) {
  const int32_t line = net_row(a.window) * S, width = a.window.out_width;
  int32_t y = 0;
  for (; y + 4 <= rows; y += 4) depth_rows<K, S, 4>(a, c, padded + (int64_t)y * S * line, out + (int64_t)y * width);
  for (; y < rows; ++y) depth_rows<K, S, 1>(a, c, padded + (int64_t)y * S * line, out + (int64_t)y * width);
}

template <int K, int S>
inline void depth_tasks_of(const NetDepth& a, int32_t i0, int32_t i1, float* scratch) {
  const NetWindow& w = a.window;
  const int32_t step = a.project.out != nullptr ? a.channels : kNetTile, tiles = net_ceil(a.channels, step);
  const int64_t made_plane = net_made_plane(a);
  float* const made = scratch + (int64_t)net_rows_in(w) * net_row(w) * S;
  for (int32_t i = i0; i < i1; ++i) {
    const int32_t first = i % tiles * step, channels = min_i32(step, a.channels - first);
    const int32_t y0 = i / tiles * w.rows, y1 = min_i32(w.out_height, y0 + w.rows);
    const int32_t from = y0 * S - w.top, to = (y1 - 1) * S - w.top + K;
    const int32_t r0 = from < 0 ? 0 : from, r1 = to < w.in_height ? to : w.in_height;
    if (a.expand.in != nullptr) {
      const int32_t p = r0 * w.in_width;
      with_tile(channels, [&](auto count) {
        point_tile<decltype(count)::value>(a.expand, first, a.expand.in + p, a.expand.in_plane, made, made_plane, p, (r1 - r0) * w.in_width);
      });
    }
    for (int32_t c = 0; c < channels; ++c) {
      const bool is_made = a.expand.in != nullptr;
      net_pad_rows(w, is_made ? made + c * made_plane : a.in + (first + c) * a.in_plane, is_made ? r0 : 0, y0, y1, scratch);
      float* out = a.project.out != nullptr ? made + c * made_plane : a.out + (first + c) * a.out_plane + (int64_t)y0 * w.out_width;
      depth_band<K, S>(a, first + c, scratch, y1 - y0, out);
    }
    if (a.project.out == nullptr) continue;
    const int32_t p = y0 * w.out_width;
    for (int32_t o = 0; o < a.project.outputs; o += kNetTile) {
      with_tile(a.project.outputs - o, [&](auto count) {
        point_tile<decltype(count)::value>(a.project, o, made, made_plane, a.project.out + o * a.project.out_plane + p, a.project.out_plane, p,
                                           (y1 - y0) * w.out_width);
      });
    }
  }
}

inline void depth_tasks(const NetDepth& a, int32_t i0, int32_t i1, float* scratch) {
  if (a.window.kernel == 3) {
    a.window.stride == 1 ? depth_tasks_of<3, 1>(a, i0, i1, scratch) : depth_tasks_of<3, 2>(a, i0, i1, scratch);
  } else {
    a.window.stride == 1 ? depth_tasks_of<5, 1>(a, i0, i1, scratch) : depth_tasks_of<5, 2>(a, i0, i1, scratch);
  }
}

template <int R, int V>
inline void dense_sums(const NetDense& a, int32_t first, const float* padded, int32_t y, int32_t x) {
  const NetWindow& w = a.window;
  const int32_t half = net_row(w), line = half * w.stride;
  const int64_t plane = (int64_t)net_rows_in(w) * line;
  const float* weights = a.weights + (int64_t)first * a.inputs * w.kernel * w.kernel;
  FloatLanes sums[R][V];
  sums_begin(sums, a.bias + first);
  for (int32_t k = 0; k < a.inputs; ++k)
    for (int32_t i = 0; i < w.kernel; ++i) {
      const float* row = padded + k * plane + i * line + x;
      for (int32_t j = 0; j < w.kernel; ++j, weights += R) sums_add(sums, row + net_tap(w.stride, half, j), weights);
    }
  const FloatLanes low = net_all(a.low), high = net_all(a.high);
#pragma GCC unroll 8
  for (int32_t r = 0; r < R; ++r) {
    const int64_t at = (int64_t)y * w.out_width + x;
    float* out = a.out + (first + r) * a.out_plane + at;
    const float* add = a.add != nullptr ? a.add + (first + r) * a.add_plane + at : nullptr;
#pragma GCC unroll 8
    for (int32_t v = 0; v < V; ++v) {
      if (x + v * kLanes >= w.out_width) continue;
      FloatLanes value = net_clamp(sums[r][v], low, high);
      if (add != nullptr) value = value + lanes_load(add + v * kLanes);
      net_store(out + v * kLanes, value, w.out_width - x - v * kLanes);
    }
  }
}

inline void dense_tasks(const NetDense& a, int32_t i0, int32_t i1, float* scratch) {
  const NetWindow& w = a.window;
  const int32_t line = net_row(w) * w.stride;
  for (int32_t i = i0; i < i1; ++i) {
    const int32_t y0 = i * w.rows, y1 = min_i32(w.out_height, y0 + w.rows);
    for (int32_t k = 0; k < a.inputs; ++k) net_pad_rows(w, a.in + k * a.in_plane, 0, y0, y1, scratch + (int64_t)k * net_rows_in(w) * line);
    for (int32_t y = y0; y < y1; ++y) {
      const float* padded = scratch + (int64_t)(y - y0) * w.stride * line;
      for (int32_t first = 0; first < a.outputs; first += kNetTile) {
        with_tile(a.outputs - first, [&](auto count) {
          constexpr int32_t R = decltype(count)::value, V = net_vectors(R);
          int32_t x = 0;
          for (; x + (V - 1) * kLanes < w.out_width; x += V * kLanes) dense_sums<R, V>(a, first, padded, y, x);
          for (; x < w.out_width; x += kLanes) dense_sums<R, 1>(a, first, padded, y, x);
        });
      }
    }
  }
}

inline void enlarge_row(const float* near, const float* far, int32_t width, float* blended, float* out) {
  blended += kMostLanes;
  for (int32_t x = 0; x < width; ++x) blended[x] = near[x] * 0.75f + far[x] * 0.25f;
  blended[-1] = blended[0];
  blended[width] = blended[width - 1];
  for (int32_t x = 0; x < width; ++x) {
    out[2 * x] = blended[x] * 0.75f + blended[x - 1] * 0.25f;
    out[2 * x + 1] = blended[x] * 0.75f + blended[x + 1] * 0.25f;
  }
}

inline void enlarge_tasks(const NetEnlarge& a, int32_t i0, int32_t i1, float* scratch) {
  const int32_t bands = net_ceil(a.height, a.rows);
  for (int32_t i = i0; i < i1; ++i) {
    const int32_t c = i / bands, y0 = i % bands * a.rows, y1 = min_i32(a.height, y0 + a.rows);
    const float* in = a.in + c * a.in_plane;
    for (int32_t y = y0; y < y1; ++y) {
      const float* row = in + (int64_t)y * a.width;
      float* out = a.out + c * a.out_plane + (int64_t)y * 4 * a.width;
      enlarge_row(row, y > 0 ? row - a.width : row, a.width, scratch, out);
      enlarge_row(row, y + 1 < a.height ? row + a.width : row, a.width, scratch, out + 2 * a.width);
    }
  }
}

}  // namespace SE_ISA_NAMESPACE
#endif
}  // namespace se
