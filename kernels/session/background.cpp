// SPDX-License-Identifier: Apache-2.0
#include "session/background.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace se {
namespace {

constexpr int32_t kMostPan = 48;      // blocks at the small size move by at most this, either way
constexpr int32_t kUnlike = 24;       // grey levels that tell a point that does not follow the pan

int32_t whole(int64_t q8) { return static_cast<int32_t>((q8 + 128) >> 8); }

}  // namespace

Background::Background(int32_t device, int32_t width, int32_t height, int32_t channels)
    : width_(width), height_(height), channels_(channels) {
  const size_t n = static_cast<size_t>(width) * height;
  paint_ = DeviceMemory(device, n * channels);
  age_ = DeviceMemory(device, n);
  level_ = DeviceMemory(device, n * sizeof(float));
}

Memory3 Background::memory() const {
  return {{age_.data(), height_, width_, 1, width_, 1, 1},
          {paint_.data(), height_, width_, channels_, int64_t{width_} * channels_, channels_, 1},
          {level_.as<float>(), height_, width_, 1, int64_t{4} * width_, 4, 4}};
}

void Background::forget(const Pan& pan) {
  knows_ = false;
  pan_ = pan;
}

Background::Since Background::follow(const Background* before, const Pan& pan) {
  if (before != nullptr && (!before->knows_ || before->pan_.era != pan.era)) before = nullptr;
  knows_ = true;
  pan_ = pan;
  if (before == nullptr) return {nullptr, 0, 0};
  return {before, whole(pan.x_q8) - whole(before->pan_.x_q8), whole(pan.y_q8) - whole(before->pan_.y_q8)};
}

PanFinder::PanFinder(int32_t width, int32_t height, int32_t channels) : width_(width), height_(height), channels_(channels) {
  now_.resize(static_cast<size_t>(width) * height);
  before_.resize(now_.size());
  far_.resize(static_cast<size_t>(64) * 64);
  votes_.resize(static_cast<size_t>(2 * kMostPan + 1) * (2 * kMostPan + 1));
}

// The motion of most far blocks, when most of them share it.
bool PanFinder::most_common(const int32_t* blocks, const float* nearness, int32_t small_width, int32_t small_height, int32_t* dx,
                            int32_t* dy) {
  const int32_t rows = (small_height + 7) / 8, columns = (small_width + 7) / 8, side = 2 * kMostPan + 1;
  double mean = 0;
  for (int64_t k = 0; k < int64_t{small_width} * small_height; ++k) mean += nearness[k];
  const auto limit = static_cast<float>(mean / (static_cast<double>(small_width) * small_height));
  std::fill(votes_.begin(), votes_.end(), 0);
  int32_t all = 0, best = 0;
  for (int32_t i = 0; i < rows; ++i) {
    for (int32_t j = 0; j < columns; ++j) {
      const int32_t y = std::min(8 * i + 4, small_height - 1), x = std::min(8 * j + 4, small_width - 1);
      const int32_t* b = blocks + 3 * (int64_t{i} * columns + j);
      if (nearness[int64_t{y} * small_width + x] > limit || std::max(std::abs(b[0]), std::abs(b[1])) > kMostPan) continue;
      ++all;
      const int32_t place = (b[0] + kMostPan) * side + b[1] + kMostPan;
      if (++votes_[place] > votes_[best]) best = place;
    }
  }
  *dy = best / side - kMostPan;
  *dx = best % side - kMostPan;
  int32_t near = 0;
  for (int32_t v = -1; v <= 1; ++v)
    for (int32_t u = -1; u <= 1; ++u)
      if (std::abs(*dy + v) <= kMostPan && std::abs(*dx + u) <= kMostPan) near += votes_[(*dy + v + kMostPan) * side + *dx + u + kMostPan];
  for (int32_t i = 0; i < 64; ++i)
    for (int32_t j = 0; j < 64; ++j)
      far_[64 * i + j] = nearness[int64_t{(2 * i + 1) * small_height / 128} * small_width + (2 * j + 1) * small_width / 128] <= limit;
  return all > 0 && 2 * near >= all;
}

// Over far points, of the frame against the one before, displaced; points outside count as unlike.
int64_t PanFinder::difference(int32_t dx, int32_t dy) const {
  int64_t total = 0;
  for (int32_t i = 0; i < 64; ++i) {
    for (int32_t j = 0; j < 64; ++j) {
      if (far_[64 * i + j] == 0) continue;
      const int32_t y = (2 * i + 1) * height_ / 128, x = (2 * j + 1) * width_ / 128, by = y + dy, bx = x + dx;
      if (by < 0 || by >= height_ || bx < 0 || bx >= width_)
        total += kUnlike;
      else
        total += std::min(kUnlike, std::abs(now_[int64_t{y} * width_ + x] - before_[int64_t{by} * width_ + bx]));
    }
  }
  return total;
}

const Pan& PanFinder::look(const uint8_t* frame, const int32_t* blocks, const float* nearness, int32_t small_width,
                           int32_t small_height) {
  now_.swap(before_);
  for (size_t k = 0; k < now_.size(); ++k) now_[k] = frame[k * channels_ + 1];
  int32_t dx = 0, dy = 0;
  if (first_ || blocks == nullptr || !most_common(blocks, nearness, small_width, small_height, &dx, &dy)) {
    first_ = false;
    ++pan_.era;
    return pan_;
  }
  // To a whole pixel, about the scaled motion of the blocks; then the rest by the picture's slope.
  const int32_t reach_x = width_ / (2 * small_width) + 2, reach_y = height_ / (2 * small_height) + 2;
  const int32_t cx = dx * width_ / small_width, cy = dy * height_ / small_height;
  int64_t least = -1;
  for (int32_t v = cy - reach_y; v <= cy + reach_y; ++v) {
    for (int32_t u = cx - reach_x; u <= cx + reach_x; ++u) {
      const int64_t apart = difference(u, v);
      if (least >= 0 && apart >= least) continue;
      least = apart;
      dx = u;
      dy = v;
    }
  }
  int64_t gxx = 0, gxy = 0, gyy = 0, gxt = 0, gyt = 0, points = 0;
  for (int32_t i = 0; i < 64; ++i) {
    for (int32_t j = 0; j < 64; ++j) {
      const int32_t y = (2 * i + 1) * height_ / 128, x = (2 * j + 1) * width_ / 128, by = y + dy, bx = x + dx;
      if (far_[64 * i + j] == 0 || by < 1 || by >= height_ - 1 || bx < 1 || bx >= width_ - 1) continue;
      const uint8_t* b = &before_[int64_t{by} * width_ + bx];
      const int32_t t = now_[int64_t{y} * width_ + x] - *b, gx = b[1] - b[-1], gy = b[width_] - b[-width_];
      if (std::abs(t) >= kUnlike) continue;
      ++points;
      gxx += gx * gx, gxy += gx * gy, gyy += gy * gy, gxt += gx * t, gyt += gy * t;
    }
  }
  const int64_t far = std::count(far_.begin(), far_.end(), uint8_t{1});
  if (2 * points < far) {  // most of it went elsewhere
    ++pan_.era;
    return pan_;
  }
  const double determinant = static_cast<double>(gxx) * static_cast<double>(gyy) - static_cast<double>(gxy) * static_cast<double>(gxy);
  double rest_x = 0, rest_y = 0;  // slopes are over two pixels
  if (determinant > 1e-9 * static_cast<double>(gxx) * static_cast<double>(gyy) && determinant > 0) {
    rest_x = 2 * (static_cast<double>(gxt) * static_cast<double>(gyy) - static_cast<double>(gyt) * static_cast<double>(gxy)) / determinant;
    rest_y = 2 * (static_cast<double>(gyt) * static_cast<double>(gxx) - static_cast<double>(gxt) * static_cast<double>(gxy)) / determinant;
  }
  // The frame's point was (dx, dy) + rest away before, so the content has moved the other way.
  pan_.x_q8 -= 256 * dx + std::lround(256 * std::clamp(rest_x, -0.75, 0.75));
  pan_.y_q8 -= 256 * dy + std::lround(256 * std::clamp(rest_y, -0.75, 0.75));
  return pan_;
}

}  // namespace se
