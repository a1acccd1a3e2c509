// SPDX-License-Identifier: Apache-2.0
#include "session/picture.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/threads.h"

namespace se {

PictureMaker::PictureMaker(const se_session_config& config, int32_t map_width, int32_t map_height)
    : width_(config.width), height_(config.height), channels_(config.channels), map_width_(map_width), map_height_(map_height),
      canvas_(SE_CPU, width_, height_, channels_, map_width, map_height, config.widen),
      moves_(static_cast<float*>(canvas_.moves.data)), left_(static_cast<uint8_t*>(canvas_.left.data)),
      right_(static_cast<uint8_t*>(canvas_.right.data)), map_(static_cast<const int32_t*>(canvas_.map.data)) {
  exec_.isa = config.isa;
  exec_.threads = config.threads;
}

void PictureMaker::plane(const uint8_t* frame, const float* nearness, bool plain_edges, float* plane) {
  canvas_.plane(exec_, packed(nearness, map_height_, map_width_, 1, SE_FLOAT32, 4), frame_of(frame), plain_edges,
                packed(plane, height_, width_, 1, SE_FLOAT32, 4));
}

void PictureMaker::moves(const float* plane, float scale, float offset, const FlatMask* mask, float flat) {
  const int64_t n = int64_t{height_} * width_;
  if (plane == nullptr) {
    std::fill(moves_, moves_ + n, offset);
  } else {
    const se_array from = packed(plane, height_, width_, 1, SE_FLOAT32, 4);
    se_level(&exec_, scale, offset, &from, &canvas_.moves);
  }
  if (mask == nullptr) return;
  for (int64_t k = 0; k < n; ++k)
    if (mask->cover[k] != 0) moves_[k] = flat;
}

void PictureMaker::moves_of_view(const float* plane, bool from_left, float scale, float offset, const FlatMask* mask, Eye eye) {
  const float flat = mask != nullptr ? std::abs(eye.down) * mask->disparity : 0.0f;
  for (int32_t y = 0; y < height_; ++y) {
    const int64_t row = int64_t{y} * width_;
    const auto place = [&](int32_t t) { return row + (from_left ? width_ - 1 - t : t); };
    const auto moved = [&](int32_t t) {
      const int64_t source = place(std::min((map_[place(t)] + 128) >> 8, width_ - 1));
      return mask != nullptr && mask->cover[source] != 0 ? flat : plane[source] * scale + offset;
    };
    for (int32_t t = 0; t < width_;) {
      if (map_[place(t)] >= 0) {
        moves_[place(t)] = moved(t);
        ++t;
        continue;
      }
      // A hole shows the farther of what lies on its two sides.
      const int32_t first = t;
      while (t < width_ && map_[place(t)] < 0) ++t;
      float far = offset;
      if (first > 0) far = moved(first - 1);
      if (t < width_) far = first > 0 ? std::min(far, moved(t)) : moved(t);
      for (int32_t k = first; k < t; ++k) moves_[place(k)] = far;
    }
  }
}

// Holes of the view that map_ is of show what is known to lie behind. A pixel of the memory lands where its own depth puts
// it; it is sought where the farther side of the hole would go on.
void PictureMaker::recall(const Background& memory, bool from_left, float scale, float offset, uint8_t* to) const {
  struct Work {
    const PictureMaker* maker;
    const Background* memory;
    bool from_left;
    float scale, offset;
    uint8_t* to;
    static void rows(const void* given, int32_t y0, int32_t y1) {
      const Work& w = *static_cast<const Work*>(given);
      for (int32_t y = y0; y < y1; ++y) w.maker->recall_row(*w.memory, y, w.from_left, w.scale, w.offset, w.to);
    }
  };
  const Work work{this, &memory, from_left, scale, offset, to};
  parallel_rows(exec_.threads, height_, 1 + 65536 / (4 * width_ + 1), Work::rows, &work);
}

void PictureMaker::recall_row(const Background& memory, int32_t y, bool from_left, float scale, float offset, uint8_t* to) const {
  constexpr float kNone = 1e9f, kNear = 0.75f;
  const int64_t row = int64_t{y} * width_;
  const auto column = [&](int32_t t) { return from_left ? width_ - 1 - t : t; };
  const auto moved = [&](int32_t t) { return static_cast<float>(map_[row + column(t)]) / 256.0f - static_cast<float>(t); };
  for (int32_t t = 0; t < width_;) {
    if (map_[row + column(t)] >= 0) {
      ++t;
      continue;
    }
    const int32_t first = t;
    while (t < width_ && map_[row + column(t)] < 0) ++t;
    const float before = first > 0 ? moved(first - 1) : kNone, after = t < width_ ? moved(t) : kNone;
    const float far = std::min(before, after), near = before < kNone && after < kNone ? std::max(before, after) : kNone;
    if (far >= kNone) continue;
    for (int32_t k = first; k < t; ++k) {
      const auto centre = static_cast<int32_t>(std::floor(static_cast<float>(k) + far + 0.5f));
      float least = kNear;
      const uint8_t* found = nullptr;
      for (int32_t s = std::max(0, centre - 3); s <= std::min(width_ - 1, centre + 3); ++s) {
        const int32_t x = column(s);
        if (!memory.knows(y, x)) continue;
        const float moves = memory.level(y, x) * scale + offset, apart = std::abs(static_cast<float>(s - k) - moves);
        if (apart >= least || moves >= near - 0.5f) continue;
        least = apart;
        found = memory.paint(y, x);
      }
      if (found != nullptr) std::memcpy(to + (row + column(k)) * channels_, found, static_cast<size_t>(channels_));
    }
  }
}

void PictureMaker::lay(const Overlay& overlay, const Eye& eye, uint8_t* view) const {
  const int32_t x0 = overlay.x - static_cast<int32_t>(std::lround(eye.across * overlay.disparity + eye.shift));
  const int32_t y0 = overlay.y - static_cast<int32_t>(std::lround(eye.down * overlay.disparity));
  for (int32_t y = std::max(0, -y0); y < overlay.height && y0 + y < height_; ++y) {
    for (int32_t x = std::max(0, -x0); x < overlay.width && x0 + x < width_; ++x) {
      const uint8_t* o = overlay.rgba.data() + 4 * (int64_t{y} * overlay.width + x);
      uint8_t* v = view + (int64_t{y0 + y} * width_ + x0 + x) * channels_;
      for (int32_t c = 0; c < 3; ++c) v[c] = static_cast<uint8_t>((o[3] * o[c] + (255 - o[3]) * v[c] + 127) / 255);
    }
  }
}

// What stays flat is put back as it is in the frame, over whatever came to lie there.
void PictureMaker::keep(const uint8_t* frame, const FlatMask& mask, const Eye& eye, uint8_t* view) const {
  const auto dx = static_cast<int32_t>(std::lround(eye.across * mask.disparity + eye.shift));
  const auto dy = static_cast<int32_t>(std::lround(eye.down * mask.disparity));
  for (int32_t y = std::max(0, dy); y < std::min(height_, height_ + dy); ++y) {
    for (int32_t x = std::max(0, dx); x < std::min(width_, width_ + dx); ++x) {
      const int64_t k = int64_t{y} * width_ + x;
      if (mask.cover[k] != 0) std::memcpy(view + (k - int64_t{dy} * width_ - dx) * channels_, frame + k * channels_, static_cast<size_t>(channels_));
    }
  }
}

// The view of an eye. Sideways first; down or up from there, by the depth that each pixel of that view is of.
void PictureMaker::eye(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras,
                       const Eye& eye, uint8_t* to) {
  const float range = params.strength / 100.0f * static_cast<float>(width_);
  const FlatMask* mask = extras.mask.get();
  const bool from_left = eye.across < 0, fill = params.fill != 0;
  // The right side is seen at x - moves, the left side at x + moves.
  const float slide = from_left ? -eye.shift : eye.shift, size = std::abs(eye.across);
  const float scale = size * params.strength / kPlaneRange;
  const float offset = (plane != nullptr ? -size * params.convergence * range : 0.0f) + slide;
  moves(plane, scale, offset, mask, mask != nullptr ? size * mask->disparity + slide : 0.0f);
  canvas_.warp(exec_, frame_of(frame), from_left, false, fill, frame_of(to));
  if (extras.background != nullptr && fill && plane != nullptr) recall(*extras.background, from_left, scale, offset, to);
  const float drop = std::abs(eye.down);
  if (drop > 0 && plane != nullptr) {
    moves_of_view(plane, from_left, drop * params.strength / kPlaneRange, -drop * params.convergence * range, mask, eye);
    canvas_.warp(exec_, frame_of(to), eye.down < 0, true, fill, frame_of(to));
  }
  if (mask != nullptr) keep(frame, *mask, eye, to);
  if (extras.overlay != nullptr) lay(*extras.overlay, eye, to);
}

namespace {

// A head that is rolled takes its eyes along.
Eye rolled(float across, float down, float shift, float degrees) {
  const double angle = static_cast<double>(degrees) * 3.14159265358979323846 / 180.0, c = std::cos(angle), s = std::sin(angle);
  return {static_cast<float>(across * c - down * s), static_cast<float>(across * s + down * c), shift};
}

}  // namespace

void PictureMaker::views(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras) {
  left_view_ = right_view_ = frame;
  if (params.layout == SE_LAYOUT_DEPTH) return;
  const bool both = params.both != 0;
  const Eye left = rolled(both ? -0.5f : 0.0f, 0, 0, params.roll), right = rolled(both ? 0.5f : 1.0f, 0, 0, params.roll);
  if (plane != nullptr && params.strength > 0) {
    eye(frame, plane, params, extras, right, right_);
    right_view_ = right_;
    if (both) {
      eye(frame, plane, params, extras, left, left_);
      left_view_ = left_;
    }
  }
  if (extras.overlay != nullptr) {
    const size_t bytes = static_cast<size_t>(width_) * height_ * channels_;
    if (left_view_ == frame) {
      left_view_ = static_cast<uint8_t*>(std::memcpy(left_, frame, bytes));
      lay(*extras.overlay, left, left_);
    }
    if (right_view_ == frame) {
      right_view_ = static_cast<uint8_t*>(std::memcpy(right_, frame, bytes));
      lay(*extras.overlay, right, right_);
    }
  }
  if (params.swap != 0) std::swap(left_view_, right_view_);
}

se_array PictureMaker::pack(const uint8_t* frame, const float* plane, const se_session_params& params, uint8_t* out) {
  if (params.layout != SE_LAYOUT_DEPTH) {
    int32_t height, width, channels;
    canvas_.shape(params.layout, &height, &width, &channels);
    const se_array all = packed(out, height, width, channels, SE_UINT8, 1);
    canvas_.lay_out(exec_, params, frame_of(left_view_), frame_of(right_view_), all);
    return all;
  }
  const float scale = 255.0f / (kPlaneRange / 100.0f * static_cast<float>(width_));
  const int64_t n = int64_t{height_} * width_;
  for (int64_t k = 0; k < n; ++k) {
    const uint8_t grey = plane != nullptr ? static_cast<uint8_t>(std::clamp(plane[k] * scale + 0.5f, 0.0f, 255.0f)) : 0;
    for (int32_t c = 0; c < 3; ++c) out[k * channels_ + c] = grey;
    if (channels_ == 4) out[k * 4 + 3] = frame[k * 4 + 3];
  }
  return frame_of(out);
}

void PictureMaker::view(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras,
                        const Eye& at, const se_array& out) {
  eye(frame, plane, params, extras, rolled(at.across, at.down, at.shift, params.roll), right_);
  copy_array(frame_of(right_), out);
}

void PictureMaker::view(const uint8_t* frame, const float* plane, const se_session_params& params, const Extras& extras,
                        const Eye& at, const AxisTable& x, const AxisTable& y, const se_array& out) {
  eye(frame, plane, params, extras, rolled(at.across, at.down, at.shift, params.roll), right_);
  const se_array view = frame_of(right_);
  se_resample(&exec_, &view, &x.view, &y.view, &out);
}

}  // namespace se
