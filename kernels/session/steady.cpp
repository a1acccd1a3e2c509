// SPDX-License-Identifier: Apache-2.0
#include "session/steady.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace se {
namespace {

constexpr int32_t kBins = 2048, kSkip = 3;
// Difference of brightness up to which a pixel is the same, and from which it is not.
constexpr float kLike = 4, kUnlike = 12;
// Difference of nearness, likewise: where the picture moves and where it stands still.
constexpr float kMovingSame = 0.04f, kMovingOther = 0.12f, kStillSame = 0.06f, kStillOther = 0.15f;
constexpr float kFollow = 0.12f;  // how fast the range follows what the network says now

void halve(const uint8_t* from, int32_t width, int32_t height, uint8_t* to, int32_t half_width, int32_t half_height) {
  for (int32_t y = 0; y < half_height; ++y) {
    const uint8_t* a = from + int64_t{2} * y * width;
    const uint8_t* b = 2 * y + 1 < height ? a + width : a;
    for (int32_t x = 0; x < half_width; ++x) {
      const int32_t x0 = 2 * x, x1 = std::min(2 * x + 1, width - 1);
      to[int64_t{y} * half_width + x] = static_cast<uint8_t>((a[x0] + a[x1] + b[x0] + b[x1] + 2) >> 2);
    }
  }
}

se_array plane(const void* data, int32_t height, int32_t width, int32_t channels, int32_t dtype, int32_t size) {
  const int64_t step = int64_t{size} * channels;
  return se_array{const_cast<void*>(data), height, width, channels, dtype, step * width, step, size};
}

}  // namespace

SteadyDepth::SteadyDepth(int32_t width, int32_t height, float keep)
    : width_(width), height_(height), rows_((height + 7) / 8), columns_((width + 7) / 8),
      half_width_(std::max(1, width / 2)), half_height_(std::max(1, height / 2)), half_rows_((half_height_ + 7) / 8),
      half_columns_((half_width_ + 7) / 8), keep_(keep) {
  const size_t n = static_cast<size_t>(width) * height, half = static_cast<size_t>(half_width_) * half_height_;
  const size_t points = static_cast<size_t>((width + kSkip - 1) / kSkip) * ((height + kSkip - 1) / kSkip);
  luma_.resize(n);
  before_.resize(n);
  moved_.resize(n);
  still_.resize(n);
  half_now_.resize(half);
  half_before_.resize(half);
  nearness_.assign(n, 0.5f);
  spare_.resize(n);
  sure_.resize(n);
  pairs_x_.resize(points);
  pairs_y_.resize(points);
  apart_.resize(points);
  sorted_.resize(points);
  blocks_.resize(static_cast<size_t>(3) * rows_ * columns_);
  start_.resize(static_cast<size_t>(2) * rows_ * columns_);
  coarse_.resize(static_cast<size_t>(3) * half_rows_ * half_columns_);
  counts_.resize(kBins + 2);
}

int64_t SteadyDepth::bytes() const {
  return static_cast<int64_t>(luma_.size() * 5 + half_now_.size() * 2 +
                              (nearness_.size() * 3 + pairs_x_.size() * 4 + blocks_.size() * 2 + kBins) * 4);
}

// Block motion in two steps: +-16 pixels at half size, then +-2 about that.
void SteadyDepth::motion(const uint8_t* now, const uint8_t* before) {
  halve(now, width_, height_, half_now_.data(), half_width_, half_height_);
  halve(before, width_, height_, half_before_.data(), half_width_, half_height_);
  se_exec exec{};
  exec.threads = 1;
  const se_array a = plane(half_now_.data(), half_height_, half_width_, 1, SE_UINT8, 1);
  const se_array b = plane(half_before_.data(), half_height_, half_width_, 1, SE_UINT8, 1);
  const se_array coarse = plane(coarse_.data(), half_rows_, half_columns_, 3, SE_INT32, 4);
  se_motion(&exec, 8, &a, &b, nullptr, &coarse);
  for (int32_t i = 0; i < rows_; ++i) {
    for (int32_t j = 0; j < columns_; ++j) {
      const int32_t* of = &coarse_[3 * (std::min(i / 2, half_rows_ - 1) * half_columns_ + std::min(j / 2, half_columns_ - 1))];
      start_[2 * (i * columns_ + j)] = 2 * of[0];
      start_[2 * (i * columns_ + j) + 1] = 2 * of[1];
    }
  }
  const se_array full_now = plane(now, height_, width_, 1, SE_UINT8, 1);
  const se_array full_before = plane(before, height_, width_, 1, SE_UINT8, 1);
  const se_array start = plane(start_.data(), rows_, columns_, 2, SE_INT32, 4);
  const se_array out = plane(blocks_.data(), rows_, columns_, 3, SE_INT32, 4);
  se_motion(&exec, 2, &full_now, &full_before, &start, &out);
}

template <typename T>
void SteadyDepth::carried(const T* from, T* to) const {
  for (int32_t y = 0; y < height_; ++y) {
    for (int32_t j = 0; j < columns_; ++j) {
      const int32_t* block = &blocks_[3 * ((y >> 3) * columns_ + j)];
      const T* row = from + int64_t{std::clamp(y + block[0], 0, height_ - 1)} * width_;
      const int32_t x0 = 8 * j, x1 = std::min(x0 + 8, width_);
      for (int32_t x = x0; x < x1; ++x) to[int64_t{y} * width_ + x] = row[std::clamp(x + block[1], 0, width_ - 1)];
    }
  }
}

float SteadyDepth::unmatched() const {
  int32_t bad = 0;
  for (int32_t k = 0; k < rows_ * columns_; ++k) bad += blocks_[3 * k + 2] > 20 * 64 ? 1 : 0;
  return static_cast<float>(bad) / static_cast<float>(rows_ * columns_);
}

// Where the frame before, carried here by blocks_, is the same thing (sure_), and stands still (still_).
void SteadyDepth::agreement(const uint8_t* before) {
  carried(before, moved_.data());
  for (int32_t y = 0; y < height_; ++y) {
    for (int32_t x = 0; x < width_; ++x) {
      const int64_t k = int64_t{y} * width_ + x;
      const int32_t* block = &blocks_[3 * ((y >> 3) * columns_ + (x >> 3))];
      const float apart = static_cast<float>(std::abs(luma_[k] - moved_[k]));
      sure_[k] = block[2] > 10 * 64 ? 0.0f : std::clamp((kUnlike - apart) / (kUnlike - kLike), 0.0f, 1.0f);
      still_[k] = block[0] == 0 && block[1] == 0 && block[2] < 5 * 64;
    }
  }
}

bool SteadyDepth::look(const uint8_t* luma) {
  luma_.swap(before_);
  std::memcpy(luma_.data(), luma, luma_.size());
  if (!has_luma_) {
    has_luma_ = true;
    return true;
  }
  motion(luma_.data(), before_.data());
  const float bad = unmatched();
  bool cut = bad > 0.8f;
  if (!cut && bad > 0.25f) {
    int32_t bins[64] = {};
    for (const uint8_t v : luma_) ++bins[v >> 3];
    for (const uint8_t v : before_) ++bins[32 + (v >> 3)];
    int64_t apart = 0;
    for (int32_t k = 0; k < 32; ++k) apart += std::abs(bins[k] - bins[32 + k]);
    cut = static_cast<double>(apart) > 0.6 * static_cast<double>(luma_.size());
  }
  if (cut) {
    has_depth_ = false;
    return true;
  }
  agreement(before_.data());
  if (has_depth_) {
    carried(nearness_.data(), spare_.data());
    nearness_.swap(spare_);
  }
  return false;
}

void SteadyDepth::take(const float* depth) { blend(depth, nearness_.data()); }

bool SteadyDepth::take_older(const float* depth, const uint8_t* luma) {
  motion(luma_.data(), luma);
  if (unmatched() > 0.5f && has_depth_) return false;  // a shot has begun since, or the camera has gone on too far
  agreement(luma);
  carried(depth, spare_.data());
  // blend reads from spare_ and writes nearness_.
  blend(spare_.data(), nearness_.data());
  return true;
}

// The robust range: 1 % of the pixels lie below it, 1 % above; a histogram made again, closer, where specks hold most.
void SteadyDepth::range(const float* depth, float* low, float* high) {
  const size_t n = nearness_.size();
  double least = depth[0], greatest = depth[0];
  for (size_t k = 1; k < n; ++k) {
    least = std::min(least, static_cast<double>(depth[k]));
    greatest = std::max(greatest, static_cast<double>(depth[k]));
  }
  const double below = 0.01 * static_cast<double>(n), above = 0.99 * static_cast<double>(n);
  double scale = 1;
  int32_t first = 0, last = 0;
  for (int32_t round = 0; round < 8 && greatest > least; ++round) {
    scale = kBins / (greatest - least);
    std::fill(counts_.begin(), counts_.end(), 0);
    for (size_t k = 0; k < n; ++k)
      ++counts_[1 + static_cast<int32_t>(std::clamp(std::floor((depth[k] - least) * scale), -1.0, static_cast<double>(kBins)))];
    int64_t total = 0;
    int32_t reached_low = 0, reached_high = 0;
    for (int32_t k = 0; k <= kBins; ++k) {
      total += counts_[k];
      if (static_cast<double>(total) <= below) reached_low = k + 1;
      if (static_cast<double>(total) < above) reached_high = k + 1;
    }
    first = std::max(0, reached_low - 1);
    last = std::min(kBins - 1, std::max(first, reached_high - 1));
    if (last - first >= kBins / 16 || round == 7) break;
    const double old = least;
    least = old + first / scale;
    greatest = old + (last + 1) / scale;
  }
  if (!(greatest > least)) {
    *low = *high = static_cast<float>(least);
    return;
  }
  *low = static_cast<float>(least + (first + 0.5) / scale);
  *high = static_cast<float>(least + (last + 0.5) / scale);
}

// The line nearness = slope * depth + offset that most sure points agree on: least squares, then thrice with Cauchy
// weights. Gives whether there is one.
bool SteadyDepth::fit(const float* depth, float* slope, float* offset) {
  size_t n = 0;
  for (int32_t y = 0; y < height_; y += kSkip) {
    for (int32_t x = 0; x < width_; x += kSkip) {
      const int64_t k = int64_t{y} * width_ + x;
      // What is clamped at the range's ends says nothing of the line.
      if (sure_[k] <= 0.5f || nearness_[k] <= 0.0f || nearness_[k] >= 1.0f) continue;
      pairs_x_[n] = depth[k];
      pairs_y_[n++] = nearness_[k];
    }
  }
  if (n < 64) return false;
  double a = 0, b = 0, scale = 0;
  for (int32_t round = 0; round < 4; ++round) {
    double total = 0, mx = 0, my = 0, xx = 0, xy = 0;
    for (size_t k = 0; k < n; ++k) {
      const double w = round == 0 ? 1.0 : 1.0 / (1.0 + static_cast<double>(apart_[k]) * apart_[k] / (scale * scale));
      total += w;
      mx += w * pairs_x_[k];
      my += w * pairs_y_[k];
    }
    mx /= total;
    my /= total;
    for (size_t k = 0; k < n; ++k) {
      const double w = round == 0 ? 1.0 : 1.0 / (1.0 + static_cast<double>(apart_[k]) * apart_[k] / (scale * scale));
      xx += w * (pairs_x_[k] - mx) * (pairs_x_[k] - mx);
      xy += w * (pairs_x_[k] - mx) * (pairs_y_[k] - my);
    }
    if (!(xx > 1e-12 * total)) return false;
    a = xy / xx;
    b = my - a * mx;
    for (size_t k = 0; k < n; ++k) sorted_[k] = apart_[k] = static_cast<float>(std::abs(pairs_y_[k] - a * pairs_x_[k] - b));
    std::nth_element(sorted_.begin(), sorted_.begin() + static_cast<int64_t>(n / 2), sorted_.begin() + static_cast<int64_t>(n));
    scale = std::max(1.5 * static_cast<double>(sorted_[n / 2]), 1e-5);
  }
  *slope = static_cast<float>(a);
  *offset = static_cast<float>(b);
  return a > 0 && std::isfinite(a) && std::isfinite(b);
}

void SteadyDepth::blend(const float* depth, const float* past) {
  float low = 0, high = 1;
  range(depth, &low, &high);
  float slope = high > low ? 1.0f / (high - low) : 0.0f, offset = high > low ? -low * slope : 0.5f;
  float a = 0, b = 0;
  const bool fresh = !has_depth_;
  if (!fresh && slope > 0 && fit(depth, &a, &b) && a > 0.4f * slope && a < 2.5f * slope) {
    // The line keeps the scale that was; the frame's own range pulls it along, slowly.
    slope = a + kFollow * (slope - a);
    offset = b + kFollow * (offset - b);
  }
  const size_t n = nearness_.size();
  for (size_t k = 0; k < n; ++k) {
    const float unit = std::clamp(slope * depth[k] + offset, 0.0f, 1.0f);
    float result = unit;
    if (!fresh) {
      const float apart = std::abs(past[k] - unit);
      const float other = still_[k] ? kStillOther : kMovingOther, same = still_[k] ? kStillSame : kMovingSame;
      const float share = sure_[k] * keep_ * std::clamp((other - apart) / (other - same), 0.0f, 1.0f);
      result = unit + share * (past[k] - unit);
    }
    nearness_[k] = result;
  }
  has_depth_ = true;
}

}  // namespace se
