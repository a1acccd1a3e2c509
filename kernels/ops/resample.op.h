// SPDX-License-Identifier: Apache-2.0
// resample: a picture at another size, to bytes or to a network's tensor, by tables of integer weights.
//
// Law (class EXACT). Output row y takes source rows first_y[y] + k with weights wy[y][k], k < count_y[y], which sum to
// 16384; columns likewise.
//   V[x, c] = (sum_k wy[k] p[first + k, x, c] + 128) >> 8          (1/64 of a grey level)
//   H[c]    = (sum_k wx[k] V[first + k, c] + 8192) >> 14           (1/64 of a grey level)
// Bytes: (H + 32) >> 6. Tensor: fl32(fl32(H * gain[c]) + bias[c]), or that as float16; channel planes apart; one
// channel is repeated.
#pragma once
#include "core/block.h"
#include "core/types.h"
#if defined(__AVX2__) && !defined(__CUDACC__)
#include <immintrin.h>
#elif defined(__SSE4_1__) && !defined(__CUDACC__)
#include <smmintrin.h>
#elif defined(__ARM_NEON) && !defined(__CUDACC__)
#include <arm_neon.h>
#endif

namespace se {

struct ResampleTable {
  const int32_t *first, *count, *weights;
  int32_t stride;  // weights per output
};

struct ResampleArgs {
  View<const uint8_t> source;
  View<uint8_t> bytes;   // used when its data is not null
  View<float> tensor;    // else this; holds float16 where half is not 0
  ResampleTable x, y;
  float gain[4], bias[4];
  int32_t half;
  // On the host, where the tables can be read: one axis is halved by means of two and the other stays, which for bytes
  // comes to (a + b + 1) >> 1.
  int32_t halves_x, halves_y;
};

namespace SE_ISA_NAMESPACE {

SE_HD void resample_store(const ResampleArgs& p, int32_t y, int32_t x, int32_t c, int32_t h) {
  const float scaled = (float)h * p.gain[c];
  const float value = scaled + p.bias[c];
  if (p.half != 0)
    *(uint16_t*)p.tensor.at(y, x, c) = float_to_half(value);
  else
    *p.tensor.at(y, x, c) = value;
}

#if !defined(__CUDACC__)
template <int C>
inline void resample_rows_of(const ResampleArgs& p, int32_t y0, int32_t y1, int32_t* __restrict v) {
  constexpr int32_t channels = C;
  const int32_t n = p.source.width * channels;
  const bool packed = p.source.stride_c == 1 && p.source.stride_x == channels;
  const bool to_bytes = p.bytes.data != nullptr;
  const int32_t out_width = to_bytes ? p.bytes.width : p.tensor.width;
  for (int32_t y = y0; y < y1; ++y) {
    const int32_t first = p.y.first[y], count = p.y.count[y];
    const int32_t* wy = p.y.weights + (int64_t)y * p.y.stride;
    for (int32_t j = 0; j < n; ++j) v[j] = 128;
    for (int32_t k = 0; k < count; ++k) {
      const int32_t w = wy[k];
      if (packed) {
        const uint8_t* __restrict row = p.source.row(first + k);
        for (int32_t j = 0; j < n; ++j) v[j] += w * row[j];
      } else {
        for (int32_t x = 0; x < p.source.width; ++x)
          for (int32_t c = 0; c < channels; ++c) v[x * channels + c] += w * *p.source.at(first + k, x, c);
      }
    }
    for (int32_t j = 0; j < n; ++j) v[j] >>= 8;
    for (int32_t x = 0; x < out_width; ++x) {
      const int32_t* wx = p.x.weights + (int64_t)x * p.x.stride;
      const int32_t* from = v + (int64_t)p.x.first[x] * channels;
      const int32_t taps = p.x.count[x];
      // Four lanes at once: with fewer channels, the rest are the next pixels' and are not used.
#if defined(__SSE4_1__)
      alignas(16) int32_t h[4];
      __m128i sum = _mm_set1_epi32(8192);
      for (int32_t k = 0; k < taps; ++k)
        sum = _mm_add_epi32(sum, _mm_mullo_epi32(_mm_set1_epi32(wx[k]), _mm_loadu_si128((const __m128i*)(from + k * channels))));
      _mm_store_si128((__m128i*)h, sum);
#elif defined(__ARM_NEON)
      int32_t h[4];
      int32x4_t sum = vdupq_n_s32(8192);
      for (int32_t k = 0; k < taps; ++k) sum = vmlaq_n_s32(sum, vld1q_s32(from + k * channels), wx[k]);
      vst1q_s32(h, sum);
#else
      int32_t h[channels];
      for (int32_t c = 0; c < channels; ++c) h[c] = 8192;
      for (int32_t k = 0; k < taps; ++k)
        for (int32_t c = 0; c < channels; ++c) h[c] += wx[k] * from[k * channels + c];
#endif
      if (to_bytes) {
        for (int32_t c = 0; c < channels; ++c) *p.bytes.at(y, x, c) = (uint8_t)(((h[c] >> 14) + 32) >> 6);
      } else {
        for (int32_t c = 0; c < 3; ++c) resample_store(p, y, x, c, h[channels < 3 ? 0 : c] >> 14);
      }
    }
  }
}

inline void resample_means(const uint8_t* __restrict a, const uint8_t* __restrict b, uint8_t* __restrict out, int32_t n) {
  for (int32_t j = 0; j < n; ++j) out[j] = (uint8_t)((a[j] + b[j] + 1) >> 1);
}

// The means of pairs of pixels of three channels, n bytes of them.
inline void resample_pairs(const uint8_t* __restrict from, int32_t n, uint8_t* __restrict out) {
  const int32_t pixels = n / 6;
  int32_t x = 0;
#if defined(__AVX512VBMI__)
  alignas(64) static const uint8_t order[64] = {
      0,  1,  2,  6,  7,  8,  12, 13, 14, 18, 19, 20, 24, 25, 26, 30, 31, 32, 36, 37, 38, 42, 43, 44,
      48, 49, 50, 54, 55, 56, 60, 61, 62, 66, 67, 68, 72, 73, 74, 78, 79, 80, 84, 85, 86, 90, 91, 92};
  for (; 6 * x + 131 <= n; x += 16) {
    const uint8_t* at = from + 6 * x;
    const __m512i low = _mm512_avg_epu8(_mm512_loadu_si512(at), _mm512_loadu_si512(at + 3));
    const __m512i high = _mm512_avg_epu8(_mm512_loadu_si512(at + 64), _mm512_loadu_si512(at + 67));
    _mm512_mask_storeu_epi8(out + 3 * x, 0xffffffffffffull,
                            _mm512_permutex2var_epi8(low, _mm512_load_si512(order), high));
  }
#elif defined(__AVX2__)
  const __m128i order = _mm_setr_epi8(0, 1, 2, 6, 7, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  for (; 6 * x + 24 <= n; x += 2) {  // eight bytes are written, of which the last two come again
    const uint8_t* at = from + 6 * x;
    const __m128i mean = _mm_avg_epu8(_mm_loadu_si128((const __m128i*)at), _mm_loadu_si128((const __m128i*)(at + 3)));
    _mm_storel_epi64((__m128i*)(out + 3 * x), _mm_shuffle_epi8(mean, order));
  }
#endif
  for (; x < pixels; ++x)
    for (int32_t c = 0; c < 3; ++c) out[3 * x + c] = (uint8_t)((from[6 * x + c] + from[6 * x + 3 + c] + 1) >> 1);
}

// The means of a packed row's pairs of pixels, width source pixels of them.
inline void resample_row_of_pairs(const uint8_t* __restrict from, int32_t width, int32_t channels, uint8_t* __restrict out) {
  if (channels == 3) return resample_pairs(from, 3 * width, out);
  for (int32_t x = 0; x < width / 2; ++x)
    for (int32_t c = 0; c < channels; ++c)
      out[x * channels + c] = (uint8_t)((from[2 * x * channels + c] + from[(2 * x + 1) * channels + c] + 1) >> 1);
}

inline void resample_halve(const ResampleArgs& p, int32_t y0, int32_t y1) {
  const int32_t channels = p.source.channels, width = p.source.width;
  for (int32_t y = y0; y < y1; ++y) {
    uint8_t* __restrict out = p.bytes.row(y);
    if (p.halves_y != 0) {
      resample_means(p.source.row(2 * y), p.source.row(2 * y + 1), out, width * channels);
    } else {
      resample_row_of_pairs(p.source.row(y), width, channels, out);
    }
  }
}

// scratch: width * channels + 3 int32.
inline void resample_rows(const ResampleArgs& p, int32_t y0, int32_t y1, int32_t* scratch) {
  const int32_t pixel = p.source.channels;
  if ((p.halves_x != 0 || p.halves_y != 0) && p.bytes.data != nullptr && p.source.stride_c == 1 &&
      p.source.stride_x == pixel && p.bytes.stride_c == 1 && p.bytes.stride_x == pixel)
    return resample_halve(p, y0, y1);
  switch (p.source.channels) {
    case 1: return resample_rows_of<1>(p, y0, y1, scratch);
    case 2: return resample_rows_of<2>(p, y0, y1, scratch);
    case 3: return resample_rows_of<3>(p, y0, y1, scratch);
    default: return resample_rows_of<4>(p, y0, y1, scratch);
  }
}
#endif

// A block is a piece of an output row: first the columns of the source that it takes are summed down, into shared memory,
// then those sums across. The tables lie on the device, where nobody has checked them: they are clamped, and what they say
// against the order of columns is summed without shared memory.
struct ResampleBlocks {
  using Args = ResampleArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256, kPiece = 64, kMostSums = 8192;

  SE_HD static int32_t width(const Args& p) { return p.bytes.data != nullptr ? p.bytes.width : p.tensor.width; }

  static Grid grid(const Args& p) {
    return {(width(p) + kPiece - 1) / kPiece, p.bytes.data != nullptr ? p.bytes.height : p.tensor.height, 2 * kMostSums};
  }

  // What an output takes along an axis: the first, and how many.
  SE_HD static int32_t first_of(const ResampleTable& t, int32_t i) { return max_i32(t.first[i], 0); }
  SE_HD static int32_t count_of(const ResampleTable& t, int32_t i, int32_t source) {
    return min_i32(min_i32(t.count[i], t.stride), source - first_of(t, i));
  }

  // The source's columns of a piece, and the first of their bytes whose sums are shared: a whole word's where words can be
  // read.
  struct Columns {
    int32_t begin, end, byte, bytes;
    bool words, shared;

    SE_HD Columns(const Args& p, const Block& b) {
      const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, width(p)) - 1, channels = p.source.channels;
      begin = first_of(p.x, x0);
      end = min_i32(first_of(p.x, x1) + max_i32(count_of(p.x, x1, p.source.width), 0), p.source.width);
      words = rows_are_aligned(p.source, 4) && p.source.stride_y >= ((int64_t)p.source.width * channels + 3) / 4 * 4;
      byte = begin * channels / (words ? 4 : 1) * (words ? 4 : 1);
      bytes = end * channels - byte;
      shared = end > begin && bytes <= kMostSums - 4;
    }
  };

  SE_HD static void down(const Args& p, const Block& b, const Columns& columns) {
    uint16_t* sums = (uint16_t*)b.shared;
    const int32_t y = first_of(p.y, b.y), n = count_of(p.y, b.y, p.source.height), channels = p.source.channels;
    const int32_t* weights = p.y.weights + (int64_t)b.y * p.y.stride;
    if (!columns.words) {
      for (int32_t i = b.thread; i < columns.bytes; i += kThreads) {
        const int32_t at = columns.byte + i, x = at / channels, c = at - x * channels;
        int32_t v = 128;
        for (int32_t k = 0; k < n; ++k) v += weights[k] * *p.source.at(y + k, x, c);
        sums[i] = (uint16_t)(v >> 8);
      }
      return;
    }
    for (int32_t i = 4 * b.thread; i < columns.bytes; i += 4 * kThreads) {
      const uint8_t* from = p.source.row(y) + columns.byte + i;
      int32_t v[4] = {128, 128, 128, 128};
#pragma unroll 4
      for (int32_t k = 0; k < n; ++k) {
        const uint32_t word = *(const Word32*)(from + k * p.source.stride_y);
        const int32_t weight = weights[k];
        for (int32_t j = 0; j < 4; ++j) v[j] += weight * (int32_t)(word >> (8 * j) & 255u);
      }
      for (int32_t j = 0; j < 4; ++j) sums[i + j] = (uint16_t)(v[j] >> 8);
    }
  }

  SE_HD static int32_t across(const Args& p, const Block& b, const Columns& columns, int32_t x, int32_t c) {
    const uint16_t* sums = (const uint16_t*)b.shared;
    const int32_t first = first_of(p.x, x), n = count_of(p.x, x, p.source.width), channels = p.source.channels;
    const int32_t* weights = p.x.weights + (int64_t)x * p.x.stride;
    int32_t h = 8192;
    if (columns.shared && first >= columns.begin && first + n <= columns.end) {
      const uint16_t* from = sums + first * channels + c - columns.byte;
      for (int32_t i = 0; i < n; ++i) h += weights[i] * from[i * channels];
      return h >> 14;
    }
    const int32_t y = first_of(p.y, b.y), rows = count_of(p.y, b.y, p.source.height);
    const int32_t* down = p.y.weights + (int64_t)b.y * p.y.stride;
    for (int32_t i = 0; i < n; ++i) {
      int32_t v = 128;
      for (int32_t k = 0; k < rows; ++k) v += down[k] * *p.source.at(y + k, first + i, c);
      h += weights[i] * (v >> 8);
    }
    return h >> 14;
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const Columns columns(p, b);
    if (k == 0) {
      if (columns.shared) down(p, b, columns);
      return;
    }
    const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, width(p)), channels = p.source.channels;
    const bool to_bytes = p.bytes.data != nullptr;
    const int32_t planes = to_bytes ? channels : 3;
    for (int32_t i = b.thread; i < planes * kPiece; i += kThreads) {
      // Bytes of a pixel lie side by side, a tensor's planes apart.
      const int32_t x = x0 + (to_bytes ? i / planes : i % kPiece), c = to_bytes ? i % planes : i / kPiece;
      if (x >= x1) continue;
      const int32_t h = across(p, b, columns, x, to_bytes || channels >= 3 ? c : 0);
      if (to_bytes)
        *p.bytes.at(b.y, x, c) = (uint8_t)((h + 32) >> 6);
      else
        resample_store(p, b.y, x, c, h);
    }
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
