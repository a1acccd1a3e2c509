// SPDX-License-Identifier: Apache-2.0
#include "session/labels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>

#include "core/check.h"
#include "ops/motion.op.h"
#include "secondeye/session.h"
#include "session/canvas.h"

namespace se {
namespace {

constexpr int32_t kReach = 2;           // cells on each side of a border that a network's soft edge spoils
constexpr double kStep = 1.0 / 16;      // of the map's range: less, within kReach, is no edge
constexpr int32_t kPoor = 10 * 64;      // a block of 8 x 8 that differs by more in all has not been found
constexpr int32_t kRadius = 2;          // pixels about its start, within which a block is sought
constexpr int32_t kAlike = 8;           // difference of brightness, up to which a label is carried
constexpr int32_t kRings = 4;           // cells that labels may grow into what became unknown
constexpr int32_t kAround[8][2] = {{-1, 0}, {0, -1}, {0, 1}, {1, 0}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}};

}  // namespace

EdgeAligner::EdgeAligner(int32_t width, int32_t height) : width_(width), height_(height) {
  const size_t n = static_cast<size_t>(width) * height;
  border_.resize(n);
  near_.resize(n);
  known_.resize(n);
  left_.resize(n);
  means_.resize(n);
}

// Cells beside another label, and those beside them.
void EdgeAligner::find_near(const uint16_t* labels) {
  std::fill(border_.begin(), border_.end(), uint8_t{0});
  for (int32_t y = 0; y < height_; ++y) {
    for (int32_t x = 0; x < width_; ++x) {
      const int64_t k = int64_t{y} * width_ + x;
      if (x + 1 < width_ && labels[k] != labels[k + 1]) border_[k] = border_[k + 1] = 1;
      if (y + 1 < height_ && labels[k] != labels[k + width_]) border_[k] = border_[k + width_] = 1;
    }
  }
  for (int32_t y = 0; y < height_; ++y) {
    for (int32_t x = 0; x < width_; ++x) {
      const int64_t k = int64_t{y} * width_ + x;
      near_[k] = static_cast<uint8_t>(border_[k] | (x > 0 ? border_[k - 1] : 0) | (x + 1 < width_ ? border_[k + 1] : 0) |
                                      (y > 0 ? border_[k - width_] : 0) | (y + 1 < height_ ? border_[k + width_] : 0));
    }
  }
}

// The greatest value less the least, within kReach cells in both directions.
float EdgeAligner::spread(const float* values, int32_t y, int32_t x) const {
  float low = values[int64_t{y} * width_ + x], high = low;
  for (int32_t j = std::max(0, y - kReach); j <= std::min(height_ - 1, y + kReach); ++j) {
    const float* row = values + int64_t{j} * width_;
    for (int32_t i = std::max(0, x - kReach); i <= std::min(width_ - 1, x + kReach); ++i) {
      low = std::min(low, row[i]);
      high = std::max(high, row[i]);
    }
  }
  return high - low;
}

void EdgeAligner::align(float* values, const uint16_t* labels) {
  find_near(labels);
  const size_t n = near_.size();
  float low = values[0], high = values[0];
  for (size_t k = 1; k < n; ++k) {
    low = std::min(low, values[k]);
    high = std::max(high, values[k]);
  }
  const float step = static_cast<float>(kStep * static_cast<double>(high - low));
  size_t count = 0;
  for (int32_t y = 0; y < height_; ++y) {
    for (int32_t x = 0; x < width_; ++x) {
      const int64_t k = int64_t{y} * width_ + x;
      const bool soft = near_[k] != 0 && labels[k] != 0 && spread(values, y, x) > step;
      known_[k] = !soft && labels[k] != 0;
      if (soft) left_[count++] = static_cast<int32_t>(k);
    }
  }
  for (int32_t round = 0; round < kReach + 1 && count > 0; ++round) {
    // What a ring finds counts from the next ring on; near_ is whether a cell has been found.
    size_t rest = 0, found = 0;
    for (size_t i = 0; i < count; ++i) {
      const int32_t k = left_[i], y = k / width_, x = k % width_;
      float of[8];
      int32_t used = 0;
      for (int32_t a = 0; a < 8; ++a) {
        const int32_t j = y + kAround[a][0], u = x + kAround[a][1], at = j * width_ + u;
        const bool use = j >= 0 && j < height_ && u >= 0 && u < width_ && known_[at] != 0 && labels[at] == labels[k];
        of[a] = use ? values[at] : 0.0f;
        used += use ? 1 : 0;
      }
      near_[k] = used != 0;
      if (used == 0) continue;
      ++found;
      means_[i] = (((of[0] + of[1]) + (of[2] + of[3])) + ((of[4] + of[5]) + (of[6] + of[7]))) / static_cast<float>(used);
    }
    if (found == 0) break;
    for (size_t i = 0; i < count; ++i) {
      const int32_t k = left_[i];
      if (near_[k] == 0) {
        left_[rest++] = k;
        continue;
      }
      values[k] = means_[i];
      known_[k] = 1;
    }
    count = rest;
  }
}

LabelCarrier::LabelCarrier(int32_t width, int32_t height)
    : width_(width), height_(height), rows_((height + 7) / 8), columns_((width + 7) / 8) {
  const size_t n = static_cast<size_t>(width) * height, blocks = static_cast<size_t>(rows_) * columns_;
  found_.resize(3 * blocks);
  moved_.resize(n);
  left_.resize(n);
  choice_.resize(n);
  colour_.resize(3 * n);
}

int64_t LabelCarrier::bytes() const {
  return static_cast<int64_t>(4 * (found_.size() + moved_.size() + left_.size() + colour_.size()) + choice_.size());
}

void LabelCarrier::seek(const uint8_t* now, const uint8_t* key, int32_t* moves) {
  se_exec exec{};
  exec.threads = 1;
  const se_array a = packed(now, height_, width_, 1, SE_UINT8, 1), b = packed(key, height_, width_, 1, SE_UINT8, 1);
  const se_array out = packed(found_.data(), rows_, columns_, 3, SE_INT32, 4);
  se_array starts = packed(moves, rows_, columns_, 3, SE_INT32, 4);
  starts.channels = 2;
  se_motion(&exec, kRadius, &a, &b, &starts, &out);
  // What has come to a block from elsewhere is sought where the blocks beside it were found.
  for (int32_t i = 0; i < rows_; ++i) {
    for (int32_t j = 0; j < columns_; ++j) {
      int32_t* best = &moves[3 * (i * columns_ + j)];
      const int32_t start[2] = {best[0], best[1]}, *tried[5] = {start};
      std::copy_n(&found_[3 * (i * columns_ + j)], 3, best);
      if (best[2] <= kPoor) continue;
      int32_t count = 1;
      for (int32_t k = 0; k < 4; ++k) {
        const int32_t v = i + kAround[k][0], u = j + kAround[k][1];
        if (v < 0 || v >= rows_ || u < 0 || u >= columns_) continue;
        const int32_t* beside = &found_[3 * (v * columns_ + u)];
        const auto same = [&](const int32_t* one) { return one[0] == beside[0] && one[1] == beside[1]; };
        if (beside[2] > kPoor || std::any_of(tried, tried + count, same)) continue;
        tried[count++] = beside;
        int32_t found[3];  // both it and its start stand for every block
        const View<const int32_t> about{beside, rows_, columns_, 2, 0, 0, 4};
        base::motion_block({view_of<const uint8_t>(a), view_of<const uint8_t>(b), about, {found, rows_, columns_, 3, 0, 0, 4}, kRadius}, i, j);
        if (found[2] < best[2]) std::copy_n(found, 3, best);
      }
    }
  }
}

void LabelCarrier::carry(const uint8_t* now, const uint8_t* key, const uint16_t* labels, const uint8_t* small, int32_t* moves,
                         int32_t* parts) {
  seek(now, key, moves);
  for (int32_t y = 0; y < height_; ++y) {
    for (int32_t x = 0; x < width_; ++x) {
      const int32_t* block = &moves[3 * ((y >> 3) * columns_ + (x >> 3))];
      const int32_t to_y = y + block[0], to_x = x + block[1];
      const int32_t from_y = std::clamp(to_y, 0, height_ - 1), from_x = std::clamp(to_x, 0, width_ - 1);
      const int64_t k = int64_t{y} * width_ + x, from = int64_t{from_y} * width_ + from_x;
      const bool found = block[2] <= kPoor && from_y == to_y && from_x == to_x && std::abs(now[k] - key[from]) <= kAlike;
      moved_[k] = labels[from] + 1;
      parts[k] = found ? moved_[k] : 0;
    }
  }
  // Where two meet, what was carried is not believed.
  for (int32_t y = 0; y < height_; ++y) {
    for (int32_t x = 0; x < width_; ++x) {
      const int64_t k = int64_t{y} * width_ + x;
      if (x + 1 < width_ && moved_[k] != moved_[k + 1]) parts[k] = parts[k + 1] = 0;
      if (y + 1 < height_ && moved_[k] != moved_[k + width_]) parts[k] = parts[k + width_] = 0;
    }
  }
  regrow(small, parts);
}

// Ring after ring, a cell that is not known goes to the part beside it whose colour it is most like. A part's colour is
// carried outward, and follows what it meets slowly.
void LabelCarrier::regrow(const uint8_t* small, int32_t* parts) {
  size_t count = 0;
  const int32_t n = width_ * height_;
  for (int32_t k = 0; k < n; ++k)
    if (parts[k] == 0) left_[count++] = k;
  for (int32_t k = 0; k < 3 * n; ++k) colour_[k] = small[k];
  for (int32_t ring = 0; ring < kRings && count > 0; ++ring) {
    bool any = false;
    for (size_t i = 0; i < count; ++i) {
      const int32_t k = left_[i], y = k / width_, x = k % width_;
      float least = std::numeric_limits<float>::infinity();
      choice_[i] = 8;  // none
      for (int32_t a = 0; a < 8; ++a) {
        const int32_t j = y + kAround[a][0], u = x + kAround[a][1];
        if (j < 0 || j >= height_ || u < 0 || u >= width_ || parts[j * width_ + u] == 0) continue;
        const float* theirs = &colour_[3 * (j * width_ + u)];
        const float apart = std::abs(small[3 * k] - theirs[0]) + std::abs(small[3 * k + 1] - theirs[1]) + std::abs(small[3 * k + 2] - theirs[2]);
        const float cost = apart + static_cast<float>(a) * 0.01f;
        if (cost >= least) continue;
        least = cost;
        choice_[i] = static_cast<uint8_t>(a);
        any = true;
      }
    }
    if (!any) break;
    size_t rest = 0;
    for (size_t i = 0; i < count; ++i) {
      const int32_t k = left_[i];
      if (choice_[i] == 8) {
        left_[rest++] = k;
        continue;
      }
      const int32_t from = k + kAround[choice_[i]][0] * width_ + kAround[choice_[i]][1];
      parts[k] = parts[from];
      for (int32_t c = 0; c < 3; ++c) colour_[3 * k + c] = 0.75f * colour_[3 * from + c] + 0.25f * small[3 * k + c];
    }
    count = rest;
  }
}

namespace {

bool is_packed(const se_array& a, int32_t size) {
  const int64_t step = int64_t{size} * a.channels;
  return (a.channels == 1 || a.stride_c == size) && a.stride_x == step && a.stride_y == step * a.width;
}

int32_t check_packed(const se_array* a, int32_t dtype, int32_t size, int32_t channels, int32_t height, int32_t width) {
  SE_TRY(check_array(a, 1u << dtype, channels, channels));
  if (a->height != height || a->width != width) return SE_ERROR_BAD_SHAPE;
  return is_packed(*a, size) ? SE_OK : SE_ERROR_BAD_STRIDE;
}

}  // namespace
}  // namespace se

using namespace se;

extern "C" {

int32_t se_align_edges(const se_array* values, const se_array* labels) {
  SE_TRY(check_array(values, 1u << SE_FLOAT32, 1, 1));
  SE_TRY(check_packed(values, SE_FLOAT32, 4, 1, values->height, values->width));
  SE_TRY(check_packed(labels, SE_UINT16, 2, 1, values->height, values->width));
  SE_TRY(check_disjoint(*values, *labels));
  try {
    EdgeAligner(values->width, values->height).align(static_cast<float*>(values->data), static_cast<const uint16_t*>(labels->data));
    return SE_OK;
  } catch (const std::bad_alloc&) {
    return SE_ERROR_OUT_OF_MEMORY;
  }
}

int32_t se_carry_labels(const se_array* now, const se_array* key, const se_array* labels, const se_array* small,
                        const se_array* moves, const se_array* parts) {
  SE_TRY(check_array(now, 1u << SE_UINT8, 1, 1));
  const int32_t height = now->height, width = now->width;
  SE_TRY(check_packed(now, SE_UINT8, 1, 1, height, width));
  SE_TRY(check_packed(key, SE_UINT8, 1, 1, height, width));
  SE_TRY(check_packed(labels, SE_UINT16, 2, 1, height, width));
  SE_TRY(check_packed(small, SE_UINT8, 1, 3, height, width));
  SE_TRY(check_packed(moves, SE_INT32, 4, 3, (height + 7) / 8, (width + 7) / 8));
  SE_TRY(check_packed(parts, SE_INT32, 4, 1, height, width));
  SE_TRY(check_disjoint(*parts, *moves));
  for (const se_array* in : {now, key, labels, small}) {
    SE_TRY(check_disjoint(*parts, *in));
    SE_TRY(check_disjoint(*moves, *in));
  }
  try {
    LabelCarrier(width, height).carry(
        static_cast<const uint8_t*>(now->data), static_cast<const uint8_t*>(key->data), static_cast<const uint16_t*>(labels->data),
        static_cast<const uint8_t*>(small->data), static_cast<int32_t*>(moves->data), static_cast<int32_t*>(parts->data));
    return SE_OK;
  } catch (const std::bad_alloc&) {
    return SE_ERROR_OUT_OF_MEMORY;
  }
}

}  // extern "C"
