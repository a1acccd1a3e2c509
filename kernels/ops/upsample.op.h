// SPDX-License-Identifier: Apache-2.0
// upsample: a disparity map from the model's resolution to the picture's, with edges put where the picture has them.
//
// Law (class EXACT). Map h x w as q = disparity_q8; picture H x W. Cell centres coincide: pixel y lies at
//   py = floor(((2 y + 1) h * 128) / H) - 128 in 1/256 cell, clamped to [0, 256 (h - 1)]; columns likewise.
// Bilinear: iy = py >> 8, fy = py & 255 (next row clamped), weights (256 - fy, fy) x (256 - fx, fx), sum 65536, result
//   (sum + 32768) >> 16.
// Guided: the nearest cell is (py + 128) >> 8; its window is the 5 x 5 cells round it that exist, with least lo and
//   greatest hi. Where hi - lo <= threshold the bilinear value stands. Else (Min et al., Depth Video Enhancement Based
//   on Weighted Mode Filtering, 2012, with two modes) cells with q <= lo + (hi - lo) / 3 vote far, those with
//   q >= hi - (hi - lo) / 3 vote near; a vote weighs kSpace[distance] * colour(guide of the cell, pixel), distance =
//   |dy| + |dx| in cells, colour(s) = max(1, 256 >> (s >> 4)) for s the sum of absolute differences of the three
//   channels. The heavier side wins, near on a tie, and the result is its weighted mean, (sum + weight / 2) / weight.
// The guide of a cell is the picture's pixel at the cell's centre, row floor((2 r + 1) H / (2 h)).
// With labels (uint16 [H, W], 0 is none): where both the cell's centre and the pixel have one, colour(s) is at least 32
//   when they are the same and 1 when they differ, so that edges fall on the borders of objects.
#pragma once
#include "core/block.h"
#include "core/lanes.h"
#include "core/types.h"

namespace se {

// Made once per call by the C interface. q: the map, [h, w]; column, fraction: whole and 1/256 part of upsample_position of
// each output column. greatest: of |q|. Where a picture guides: low, high: least and greatest of each cell's window; begin:
// the first output column whose nearest cell is s, s = 0..w; guide: [h, w, 4], the last byte unused; label: [h, w], zeros
// where there are no labels.
struct UpsampleTables {
  const int32_t *q, *low, *high, *column, *fraction, *begin;
  const uint8_t* guide;
  const uint16_t* label;
  int32_t greatest;
};

// Where the tables are made, row after row of cells; greatest: of each row.
struct UpsampleBuild {
  View<const float> map;
  View<const uint8_t> picture;
  View<const uint16_t> labels;
  int32_t *q, *low, *high, *greatest;
  uint8_t* guide;
  uint16_t* label;
  const int32_t* centre;  // upsample_centre of each column of cells; null where no picture guides
};

struct UpsampleArgs {
  View<const float> map;
  View<const uint8_t> picture;
  View<const uint16_t> labels;  // data is null when there are none
  View<float> out;
  int32_t guided, threshold_q8;
  UpsampleTables tables;
};

// Pictures that are larger than their maps, so that the cells of many pixels are few.
struct UpsampleTileArgs : UpsampleArgs {};

namespace SE_ISA_NAMESPACE {

SE_HD int32_t upsample_position(int32_t i, int32_t from, int32_t to) {
  const int64_t p = ((2 * (int64_t)i + 1) * from * 128) / to - 128;
  const int64_t most = 256 * (int64_t)(from - 1);
  return (int32_t)(p < 0 ? 0 : (p > most ? most : p));
}

SE_HD int32_t upsample_centre(int32_t i, int32_t cells, int32_t pixels) {
  return (int32_t)(((2 * (int64_t)i + 1) * pixels) / (2 * (int64_t)cells));
}

// kSpace: 16, 12, 9, 6, 4 for 0 to 4 cells, four bits each and one less.
SE_HD int32_t upsample_space(int32_t distance) { return (int32_t)((0x358bfu >> (4 * distance)) & 15u) + 1; }

SE_HD int32_t upsample_likeness(int32_t apart, int32_t cell_label, int32_t label) {
  const int32_t colour = max_i32(1, 256 >> min_i32(apart >> 4, 9));
  if (cell_label == 0 || label == 0) return colour;
  return cell_label == label ? max_i32(colour, 32) : 1;
}

#if !defined(__CUDACC__)
// q, guide, label and greatest of rows of cells.
inline void upsample_cell_rows(const UpsampleBuild& p, int32_t r0, int32_t r1) {
  const int32_t h = p.map.height, w = p.map.width;
  for (int32_t r = r0; r < r1; ++r) {
    int32_t* __restrict q = p.q + (int64_t)r * w;
    disparity_row_q8(p.map, r, q);
    int32_t greatest = 0;
    for (int32_t s = 0; s < w; ++s) greatest = max_i32(greatest, abs_i32(q[s]));
    p.greatest[r] = greatest;
    if (p.centre == nullptr) continue;
    const int32_t y = upsample_centre(r, h, p.picture.height);
    uint8_t* __restrict guide = p.guide + 4 * (int64_t)r * w;
    uint16_t* __restrict label = p.label + (int64_t)r * w;
    const int64_t step = p.picture.stride_c;
    for (int32_t s = 0; s < w; ++s) {
      const uint8_t* at = p.picture.at(y, p.centre[s]);
      guide[4 * s] = at[0];
      guide[4 * s + 1] = at[step];
      guide[4 * s + 2] = at[2 * step];
      label[s] = p.labels.data != nullptr ? *p.labels.at(y, p.centre[s]) : 0;
    }
  }
}

// low and high of rows of cells, from q. scratch: 2 w int32.
inline void upsample_window_rows(const UpsampleBuild& p, int32_t r0, int32_t r1, int32_t* scratch) {
  const int32_t h = p.map.height, w = p.map.width;
  int32_t *__restrict least = scratch, *__restrict most = scratch + w;
  for (int32_t r = r0; r < r1; ++r) {
    const int32_t* rows[5];
    for (int32_t k = 0; k < 5; ++k) rows[k] = p.q + (int64_t)clamp_i32(r + k - 2, 0, h - 1) * w;
    const int32_t *__restrict a = rows[0], *__restrict b = rows[1], *__restrict c = rows[2], *__restrict d = rows[3];
    const int32_t* __restrict e = rows[4];
    for (int32_t s = 0; s < w; ++s) {
      least[s] = min_i32(min_i32(min_i32(a[s], b[s]), min_i32(c[s], d[s])), e[s]);
      most[s] = max_i32(max_i32(max_i32(a[s], b[s]), max_i32(c[s], d[s])), e[s]);
    }
    int32_t *__restrict low = p.low + (int64_t)r * w, *__restrict high = p.high + (int64_t)r * w;
    const int32_t begin = min_i32(2, w), end = max_i32(begin, w - 2);
    for (int32_t s = begin; s < end; ++s) {
      low[s] = min_i32(min_i32(min_i32(least[s - 2], least[s - 1]), min_i32(least[s], least[s + 1])), least[s + 2]);
      high[s] = max_i32(max_i32(max_i32(most[s - 2], most[s - 1]), max_i32(most[s], most[s + 1])), most[s + 2]);
    }
    for (int32_t s = 0; s < w; s = s + 1 == begin ? max_i32(end, begin) : s + 1) {
      int32_t lo = least[s], hi = most[s];
      for (int32_t k = max_i32(s - 2, 0); k <= min_i32(s + 2, w - 1); ++k) {
        lo = min_i32(lo, least[k]);
        hi = max_i32(hi, most[k]);
      }
      low[s] = lo;
      high[s] = hi;
    }
  }
}

// The cells of one window that vote: those for near from the first place on, those for far up to the last one.
struct UpsampleVoters {
  struct Voter {
    int32_t red, green, blue, label, weight, rise;  // weight: kSpace of its distance; rise: q - lo
  };
  static constexpr int32_t kMost = 25;
  Voter voter[kMost];
  int32_t near, far, lo, span;

  void gather(const UpsampleTables& t, int32_t h, int32_t w, int32_t r, int32_t s) {
    lo = t.low[r * w + s];
    span = t.high[r * w + s] - lo;
    near = far = 0;
    const int32_t third = span / 3, y1 = min_i32(r + 2, h - 1), x0 = max_i32(s - 2, 0), x1 = min_i32(s + 2, w - 1);
    for (int32_t y = max_i32(r - 2, 0); y <= y1; ++y) {
      for (int32_t x = x0; x <= x1; ++x) {
        const int32_t cell = y * w + x, rise = t.q[cell] - lo;
        const bool is_near = rise >= span - third;
        if (!is_near && rise > third) continue;
        const uint8_t* guide = t.guide + 4 * (int64_t)cell;
        voter[is_near ? near++ : kMost - ++far] =
            Voter{guide[0], guide[1], guide[2], t.label[cell], upsample_space(abs_i32(y - r) + abs_i32(x - s)), rise};
      }
    }
  }
};

// Pixels of one cell, until there are enough to be voted on at once.
struct UpsamplePixels {
  int32_t red[kLanes] = {}, green[kLanes] = {}, blue[kLanes] = {}, label[kLanes] = {};
  float* to[kLanes];
  int32_t count = 0;
};

// What one side of the voters gives pixels: votes, and votes times rises.
template <bool Labels>
inline void upsample_side(const UpsampleVoters::Voter* first, int32_t count, const UpsamplePixels& p, Lanes* votes, Lanes* sums) {
  const Lanes red = lanes_load(p.red), green = lanes_load(p.green), blue = lanes_load(p.blue), label = lanes_load(p.label), none{};
  Lanes vote_sum{}, rise_sum{};
  const auto size = [](Lanes v) { return v < -v ? -v : v; };
  for (const UpsampleVoters::Voter* v = first; v < first + count; ++v) {
    const Lanes apart = (size(red - v->red) + size(green - v->green) + size(blue - v->blue)) >> 4;
    const Lanes shift = apart < 8 ? apart : none + 8;
    Lanes vote = (none + 256 * v->weight) >> shift;
    if (Labels && v->label != 0) {  // as upsample_likeness
      const Lanes alike = none + 32 * v->weight, same = vote < alike ? alike : vote;
      vote = label == 0 ? vote : (label == v->label ? same : none + v->weight);
    }
    vote_sum += vote;
    rise_sum += vote * v->rise;
  }
  *votes = vote_sum;
  *sums = rise_sum;
}

// Window of 128 pixels and more: votes, at most 51200 of them, times rises may not fit 32 bits.
inline int32_t upsample_wide_vote(const UpsampleVoters& v, const UpsamplePixels& p, int32_t k) {
  const auto side = [&](const UpsampleVoters::Voter* first, int32_t count, int64_t* sum) {
    int32_t votes = 0;
    for (const UpsampleVoters::Voter* c = first; c < first + count; ++c) {
      const int32_t apart = abs_i32(c->red - p.red[k]) + abs_i32(c->green - p.green[k]) + abs_i32(c->blue - p.blue[k]);
      const int32_t vote = c->weight * upsample_likeness(apart, c->label, p.label[k]);
      votes += vote;
      *sum += (int64_t)vote * c->rise;
    }
    return votes;
  };
  int64_t near_sum = 0, far_sum = 0;
  const int32_t near = side(v.voter, v.near, &near_sum), far = side(v.voter + v.kMost - v.far, v.far, &far_sum);
  const int32_t votes = near >= far ? near : far;
  return v.lo + (int32_t)(((near >= far ? near_sum : far_sum) + votes / 2) / votes);
}

template <bool Labels>
inline void upsample_vote(const UpsampleVoters& v, UpsamplePixels* p) {
  const int32_t count = p->count;
  p->count = 0;
  if (v.span >= 32768) {
    for (int32_t k = 0; k < count; ++k) *p->to[k] = (float)upsample_wide_vote(v, *p, k) * 0.00390625f;
    return;
  }
  Lanes votes, sum, far, far_sum;
  upsample_side<Labels>(v.voter, v.near, *p, &votes, &sum);
  upsample_side<Labels>(v.voter + v.kMost - v.far, v.far, *p, &far, &far_sum);
  sum = votes >= far ? sum : far_sum;
  votes = votes >= far ? votes : far;
  sum += votes >> 1;
  // A quotient under 2^15 of floats is off by one at most.
  Lanes mean = __builtin_convertvector(__builtin_convertvector(sum, FloatLanes) / __builtin_convertvector(votes, FloatLanes), Lanes);
  const Lanes rest = sum - mean * votes;
  mean += (rest < 0) - (rest >= votes);
  const FloatLanes pixels = __builtin_convertvector(mean + v.lo, FloatLanes) * 0.00390625f;
  for (int32_t k = 0; k < count; ++k) *p->to[k] = pixels[k];
}

template <bool Labels>
inline void upsample_guided_cell(const UpsampleArgs& p, const UpsampleVoters& voters, int32_t y0, int32_t y1, int32_t x0, int32_t x1) {
  UpsamplePixels pixels;
  for (int32_t y = y0; y < y1; ++y) {
    const uint8_t* from = p.picture.at(y, x0);
    for (int32_t x = x0; x < x1; ++x, from += p.picture.stride_x) {
      const int32_t k = pixels.count++;
      pixels.red[k] = from[0];
      pixels.green[k] = from[p.picture.stride_c];
      pixels.blue[k] = from[2 * p.picture.stride_c];
      if (Labels) pixels.label[k] = *p.labels.at(y, x);
      pixels.to[k] = p.out.at(y, x);
      if (pixels.count == kLanes) upsample_vote<Labels>(voters, &pixels);
    }
  }
  if (pixels.count > 0) upsample_vote<Labels>(voters, &pixels);
}

// scratch: w + 1 int64.
inline void upsample_bilinear_row(const UpsampleArgs& p, int32_t y, int64_t* scratch) {
  const UpsampleTables& t = p.tables;
  const int32_t h = p.map.height, w = p.map.width, width = p.out.width;
  const int32_t *__restrict column = t.column, *__restrict fraction = t.fraction;
  const int32_t py = upsample_position(y, h, p.out.height), fy = py & 255, iy = py >> 8;
  const int32_t* __restrict top = t.q + (int64_t)iy * w;
  const int32_t* __restrict low = t.q + (int64_t)min_i32(iy + 1, h - 1) * w;
  // Down first, then across: the same sum of four products. 32 bits do while |q| < 2^15 (128 pixels).
  if (p.out.stride_x == 4 && t.greatest < 32768) {
    int32_t* __restrict v = (int32_t*)scratch;
    for (int32_t x = 0; x < w; ++x) v[x] = top[x] * (256 - fy) + low[x] * fy;
    v[w] = v[w - 1];
    float* __restrict out = p.out.row(y);
    int32_t x = 0;
#if defined(__AVX2__)
    // Both cells of a pixel in one load.
    const auto two = [&](const int32_t* at) { return _mm_castsi128_ps(lanes_load_two(v + at[0], v + at[1])); };
    const __m256i whole = _mm256_set1_epi32(256), half = _mm256_set1_epi32(32768);
    for (; x + 8 <= width; x += 8) {
      const __m256 even = _mm256_insertf128_ps(_mm256_castps128_ps256(two(column + x)), two(column + x + 4), 1);
      const __m256 odd = _mm256_insertf128_ps(_mm256_castps128_ps256(two(column + x + 2)), two(column + x + 6), 1);
      const __m256i a = _mm256_castps_si256(_mm256_shuffle_ps(even, odd, 0x88)), b = _mm256_castps_si256(_mm256_shuffle_ps(even, odd, 0xdd));
      const __m256i f = _mm256_loadu_si256((const __m256i*)(fraction + x));
      const __m256i sum = _mm256_add_epi32(_mm256_mullo_epi32(a, _mm256_sub_epi32(whole, f)), _mm256_mullo_epi32(b, f));
      const __m256 q = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_add_epi32(sum, half), 16));
      _mm256_storeu_ps(out + x, _mm256_mul_ps(q, _mm256_set1_ps(0.00390625f)));
    }
#endif
    for (; x < width; ++x) {
      const int32_t i = column[x], f = fraction[x];
      const int32_t a = v[i], b = v[i + 1];
      out[x] = (float)((a * (256 - f) + b * f + 32768) >> 16) * 0.00390625f;
    }
  } else {
    int64_t* __restrict v = scratch;
    for (int32_t x = 0; x < w; ++x) v[x] = (int64_t)top[x] * (256 - fy) + (int64_t)low[x] * fy;
    v[w] = v[w - 1];
    for (int32_t x = 0; x < width; ++x) {
      const int64_t sum = v[column[x]] * (256 - fraction[x]) + v[column[x] + 1] * fraction[x] + 32768;
      *p.out.at(y, x) = (float)(int32_t)(sum >> 16) * 0.00390625f;
    }
  }
}

// Rows of the same cells are done together, so that a cell's voters are gathered once. scratch: as above.
inline void upsample_rows(const UpsampleArgs& p, int32_t y0, int32_t y1, int64_t* scratch) {
  const UpsampleTables& t = p.tables;
  const int32_t h = p.map.height, w = p.map.width;
  const auto cell_row = [&](int32_t y) { return (upsample_position(y, h, p.out.height) + 128) >> 8; };
  UpsampleVoters voters;
  for (int32_t first = y0, end; first < y1; first = end) {
    const int32_t r = cell_row(first);
    for (end = first; end < y1 && cell_row(end) == r; ++end) upsample_bilinear_row(p, end, scratch);
    if (p.guided == 0) continue;
    for (int32_t s = 0; s < w; ++s) {
      const int32_t cell = r * w + s, x0 = t.begin[s], x1 = t.begin[s + 1];
      if (t.high[cell] - t.low[cell] <= p.threshold_q8 || x0 == x1) continue;
      voters.gather(t, h, w, r, s);
      if (p.labels.data != nullptr)
        upsample_guided_cell<true>(p, voters, first, end, x0, x1);
      else
        upsample_guided_cell<false>(p, voters, first, end, x0, x1);
    }
  }
}
#endif

// A thread is an output pixel. The least and greatest of the windows round the cells that a block's pixels fall into
// stand in shared memory: many pixels share a cell.
struct UpsampleBlocks {
  using Args = UpsampleArgs;
  static constexpr int32_t kPhases = 2, kThreads = 256, kCells = 512;

  static Grid grid(const Args& p) {
    return {(p.out.width + kThreads - 1) / kThreads, p.out.height, p.guided != 0 ? 8 * kCells : 0};
  }

  SE_HD static int32_t cell(const Args& p, int32_t y, int32_t x) { return disparity_q8(*p.map.at(y, x)); }

  // The column of cells that an output column falls into.
  SE_HD static int32_t column(const Args& p, int32_t x) {
    return (upsample_position(x, p.map.width, p.out.width) + 128) >> 8;
  }

  SE_HD static void window(const Args& p, int32_t r, int32_t s, int32_t* low, int32_t* high) {
    const int32_t h = p.map.height, w = p.map.width;
    int32_t lo = cell(p, r, s), hi = lo;
    for (int32_t cy = max_i32(r - 2, 0); cy <= min_i32(r + 2, h - 1); ++cy) {
      for (int32_t cx = max_i32(s - 2, 0); cx <= min_i32(s + 2, w - 1); ++cx) {
        const int32_t q = cell(p, cy, cx);
        lo = min_i32(lo, q);
        hi = max_i32(hi, q);
      }
    }
    *low = lo;
    *high = hi;
  }

  SE_HD static int32_t vote(const Args& p, int32_t y, int32_t x, int32_t r, int32_t s, int32_t lo, int32_t hi) {
    const int32_t h = p.map.height, w = p.map.width, third = (hi - lo) / 3;
    const int32_t red = *p.picture.at(y, x, 0), green = *p.picture.at(y, x, 1), blue = *p.picture.at(y, x, 2);
    const int32_t label = p.labels.data != nullptr ? *p.labels.at(y, x) : 0;
    int32_t near = 0, far = 0;
    int64_t near_sum = 0, far_sum = 0;
    for (int32_t cy = max_i32(r - 2, 0); cy <= min_i32(r + 2, h - 1); ++cy) {
      const int32_t gy = upsample_centre(cy, h, p.picture.height);
      for (int32_t cx = max_i32(s - 2, 0); cx <= min_i32(s + 2, w - 1); ++cx) {
        const int32_t q = cell(p, cy, cx);
        const bool is_near = q >= hi - third;
        if (!is_near && q > lo + third) continue;
        const int32_t gx = upsample_centre(cx, w, p.picture.width);
        const uint8_t* guide = p.picture.at(gy, gx);
        const int32_t cell_label = p.labels.data != nullptr ? *p.labels.at(gy, gx) : 0;
        const int64_t step = p.picture.stride_c;
        const int32_t apart =
            abs_i32(guide[0] - red) + abs_i32(guide[step] - green) + abs_i32(guide[2 * step] - blue);
        const int32_t distance = abs_i32(cy - r) + abs_i32(cx - s);
        const int32_t weight = upsample_space(distance) * upsample_likeness(apart, cell_label, label);
        (is_near ? near : far) += weight;
        (is_near ? near_sum : far_sum) += (int64_t)weight * (q - lo);
      }
    }
    const bool side = near >= far;
    const int32_t weight = side ? near : far;
    return lo + (int32_t)(((side ? near_sum : far_sum) + weight / 2) / weight);
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const int32_t x0 = b.x * kThreads, x = x0 + b.thread, y = b.y, h = p.map.height, w = p.map.width;
    const int32_t py = upsample_position(y, h, p.out.height), r = (py + 128) >> 8;
    const int32_t first = column(p, x0), last = column(p, min_i32(x0 + kThreads, p.out.width) - 1);
    const bool shared = last - first < kCells;  // else the map is finer than the picture
    int32_t *lows = (int32_t*)b.shared, *highs = lows + kCells;
    if (k == 0) {
      if (p.guided == 0 || !shared) return;
      for (int32_t i = b.thread; i <= last - first; i += kThreads) window(p, r, first + i, lows + i, highs + i);
      return;
    }
    if (x >= p.out.width) return;
    const int32_t px = upsample_position(x, w, p.out.width), s = (px + 128) >> 8;
    int32_t result = 0;
    bool voted = false;
    if (p.guided != 0) {
      int32_t lo, hi;
      if (shared) {
        lo = lows[s - first];
        hi = highs[s - first];
      } else {
        window(p, r, s, &lo, &hi);
      }
      voted = hi - lo > p.threshold_q8;
      if (voted) result = vote(p, y, x, r, s, lo, hi);
    }
    if (!voted) {
      const int32_t iy = py >> 8, ix = px >> 8, jy = min_i32(iy + 1, h - 1), jx = min_i32(ix + 1, w - 1);
      const int64_t fy = py & 255, fx = px & 255;
      const int64_t top = cell(p, iy, ix) * (256 - fx) + cell(p, iy, jx) * fx;
      const int64_t low = cell(p, jy, ix) * (256 - fx) + cell(p, jy, jx) * fx;
      result = (int32_t)((top * (256 - fy) + low * fy + 32768) >> 16);
    }
    *p.out.at(y, x) = (float)result * 0.00390625f;
  }
};

// A block is a tile of 128 x 16 outputs; a thread's share are eight of a column. The cells that they take, with what votes
// need of each, stand in shared memory.
struct UpsampleTileBlocks {
  using Args = UpsampleTileArgs;
  static constexpr int32_t kPhases = 3, kThreads = 256, kWide = 128, kTall = 16, kMostCells = 1024;

  static constexpr int32_t kAbsent = 1 << 30;  // what stands for q beyond the map: too great to vote

  // Cells along one axis of a tile: those that pixels fall into, and two more at either end.
  static int64_t cells_of(int32_t cells, int32_t pixels, int32_t tile) { return ((int64_t)tile * cells + pixels - 1) / pixels + 6; }
  static int64_t most_cells(const UpsampleArgs& p) {
    return cells_of(p.map.width, p.out.width, kWide) * cells_of(p.map.height, p.out.height, kTall);
  }
  static bool takes(const UpsampleArgs& p) { return most_cells(p) <= kMostCells; }

  static Grid grid(const Args& p) {
    return {(p.out.width + kWide - 1) / kWide, (p.out.height + kTall - 1) / kTall, 8 * kTall + 20 * most_cells(p)};
  }

  struct alignas(8) Cell {
    int32_t q;
    uint32_t guide;
  };

  // Of a tile: the first cell of the shared ones along an axis, and how many.
  SE_HD static void range(int32_t i0, int32_t tile, int32_t cells, int32_t pixels, int32_t* first, int32_t* count) {
    *first = ((upsample_position(i0, cells, pixels) + 128) >> 8) - 2;
    *count = ((upsample_position(min_i32(i0 + tile, pixels) - 1, cells, pixels) + 128) >> 8) + 3 - *first;
  }

  struct Tile {
    int32_t r0, rows, s0, columns;
    Cell* cell;
    int32_t *down, *low, *high, *label;  // down: upsample_position of the tile's rows

    SE_HD Tile(const Args& p, const Block& b) {
      range(b.y * kTall, kTall, p.map.height, p.out.height, &r0, &rows);
      range(b.x * kWide, kWide, p.map.width, p.out.width, &s0, &columns);
      const int32_t cells = rows * columns;
      cell = (Cell*)b.shared;
      low = (int32_t*)(cell + cells);
      high = low + cells;
      label = high + cells;
      down = label + cells;
    }
  };

  SE_HD static uint32_t colour(const Args& p, int32_t y, int32_t x) {
    const uint8_t* at = p.picture.at(y, x);
    const int64_t step = p.picture.stride_c;
    return (uint32_t)at[0] | (uint32_t)at[step] << 8 | (uint32_t)at[2 * step] << 16;
  }

  SE_HD static void load(const Args& p, const Block& b, const Tile& t) {
    if (b.thread < kTall) t.down[b.thread] = upsample_position(min_i32(b.y * kTall + b.thread, p.out.height - 1), p.map.height, p.out.height);
    for (int32_t i = b.thread; i < t.rows * t.columns; i += kThreads) {
      const int32_t r = t.r0 + i / t.columns, s = t.s0 + i % t.columns;
      const bool exists = r >= 0 && r < p.map.height && s >= 0 && s < p.map.width;
      t.cell[i] = Cell{exists ? disparity_q8(*p.map.at(r, s)) : kAbsent, 0};
      if (p.guided == 0 || !exists) continue;
      const int32_t y = upsample_centre(r, p.map.height, p.picture.height), x = upsample_centre(s, p.map.width, p.picture.width);
      t.cell[i].guide = colour(p, y, x);
      t.label[i] = p.labels.data != nullptr ? *p.labels.at(y, x) : 0;
    }
  }

  // Least and greatest, of the cells whose windows are whole.
  SE_HD static void windows(const Block& b, const Tile& t) {
    for (int32_t i = b.thread; i < (t.rows - 4) * (t.columns - 4); i += kThreads) {
      const int32_t r = i / (t.columns - 4) + 2, s = i % (t.columns - 4) + 2, at = r * t.columns + s;
      int32_t lo = t.cell[at].q, hi = lo;
#pragma unroll
      for (int32_t k = 0; k < 25; ++k) {
        const int32_t q = t.cell[at + (k / 5 - 2) * t.columns + k % 5 - 2].q;
        lo = min_i32(lo, q);
        hi = q == kAbsent ? hi : max_i32(hi, q);
      }
      t.low[at] = lo;
      t.high[at] = hi;
    }
  }

  // The vote for a pixel at a cell. Sum is unsigned where the votes, at most 51200 in all, times the window's span stay
  // inside 32 bits.
  template <typename Sum, bool Labels>
  SE_HD static int32_t vote(const Tile& t, int32_t at, uint32_t pixel, int32_t label) {
    const int32_t lo = t.low[at], span = t.high[at] - lo, third = span / 3;
    uint32_t near = 0, far = 0;
    Sum near_sum = 0, far_sum = 0;
#pragma unroll
    for (int32_t dy = -2; dy <= 2; ++dy) {
#pragma unroll
      for (int32_t dx = -2; dx <= 2; ++dx) {
        const int32_t i = at + dy * t.columns + dx;
        const Cell cell = t.cell[i];
        const uint32_t rise = (uint32_t)(cell.q - lo), space = (uint32_t)upsample_space(abs_i32(dy) + abs_i32(dx));
        const int32_t apart = block_apart(cell.guide, pixel);
        // upsample_likeness, as a shift where there are no labels
        const uint32_t weight = Labels ? space * (uint32_t)upsample_likeness(apart, t.label[i], label)
                                       : space * 256 >> min_i32(apart >> 4, 8);
        if (rise - (uint32_t)(span - third) <= (uint32_t)third) {
          near += weight;
          near_sum += (Sum)weight * (Sum)rise;
        } else if (rise <= (uint32_t)third) {
          far += weight;
          far_sum += (Sum)weight * (Sum)rise;
        }
      }
    }
    const bool side = near >= far;
    const Sum weight = (Sum)(side ? near : far), sum = side ? near_sum : far_sum;
    return lo + (int32_t)((sum + weight / 2) / weight);
  }

  SE_HD static int32_t voted(const Args& p, const Tile& t, int32_t at, int32_t y, int32_t x) {
    const uint32_t pixel = colour(p, y, x);
    const int32_t label = p.labels.data != nullptr ? *p.labels.at(y, x) : 0;
    if (t.high[at] - t.low[at] >= 65536) return vote<uint64_t, true>(t, at, pixel, label);
    return p.labels.data != nullptr ? vote<uint32_t, true>(t, at, pixel, label) : vote<uint32_t, false>(t, at, pixel, 0);
  }

  SE_HD static void pixels(const Args& p, const Block& b, const Tile& t) {
    const int32_t dx = b.thread % kWide, x = b.x * kWide + dx;
    if (x >= p.out.width) return;
    const int32_t px = upsample_position(x, p.map.width, p.out.width), fx = px & 255;
    const int32_t s = ((px + 128) >> 8) - t.s0, i = (px >> 8) - t.s0, j = min_i32((px >> 8) + 1, p.map.width - 1) - t.s0;
    for (int32_t dy = b.thread / kWide; dy < kTall; dy += kThreads / kWide) {
      const int32_t y = b.y * kTall + dy;
      if (y >= p.out.height) return;
      const int32_t py = t.down[dy], fy = py & 255, at = (((py + 128) >> 8) - t.r0) * t.columns + s;
      int32_t result;
      if (p.guided != 0 && t.high[at] - t.low[at] > p.threshold_q8) {
        result = voted(p, t, at, y, x);
      } else {
        const Cell* top = t.cell + ((py >> 8) - t.r0) * t.columns;
        const Cell* low = t.cell + (min_i32((py >> 8) + 1, p.map.height - 1) - t.r0) * t.columns;
        const int64_t over = top[i].q * (256 - fx) + top[j].q * fx, under = low[i].q * (256 - fx) + low[j].q * fx;
        result = (int32_t)((over * (256 - fy) + under * fy + 32768) >> 16);
      }
      *p.out.at(y, x) = (float)result * 0.00390625f;
    }
  }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    const Tile tile(p, b);
    if (k == 0)
      load(p, b, tile);
    else if (k == 1 && p.guided != 0)
      windows(b, tile);
    else if (k == 2)
      pixels(p, b, tile);
  }
};

}  // namespace SE_ISA_NAMESPACE
}  // namespace se
