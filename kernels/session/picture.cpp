// SPDX-License-Identifier: Apache-2.0
#include "session/picture.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/threads.h"

namespace se {

PictureMaker::PictureMaker(const se_session_config& config, int32_t map_width, int32_t map_height)
    : width_(config.width), height_(config.height), channels_(config.channels), map_width_(map_width),
      map_height_(map_height), widen_(config.widen) {
  exec_.threads = config.threads;
  half_width_ = area_axis(width_, std::max(1, width_ / 2));
  half_height_ = area_axis(height_, std::max(1, height_ / 2));
  whole_width_ = area_axis(width_, width_);
  whole_height_ = area_axis(height_, height_);
  const size_t n = static_cast<size_t>(width_) * height_, c = static_cast<size_t>(channels_);
  cells_.resize(static_cast<size_t>(map_width) * map_height);
  if (widen_ > 0) raw_plane_.resize(n);
  moves_.resize(n);
  warped_.resize(n * c);
  left_.resize(n * c);
  right_.resize(n * c);
  holes_.resize(n);
  map_.resize(n);
}

int64_t PictureMaker::bytes() const {
  return static_cast<int64_t>((cells_.size() + raw_plane_.size() + moves_.size() + map_.size()) * 4 + warped_.size() +
                              left_.size() + right_.size() + holes_.size());
}

void PictureMaker::plane(const uint8_t* frame, const float* nearness, bool plain_edges, float* plane) {
  const float range = kPlaneRange / 100.0f * static_cast<float>(width_);
  for (size_t k = 0; k < cells_.size(); ++k) cells_[k] = nearness[k] * range;
  const int32_t step_q8 = std::max(256, static_cast<int32_t>(16.0f * range));
  const se_array map = packed(cells_.data(), map_height_, map_width_, 1, SE_FLOAT32, 4), picture = frame_of(frame);
  const se_array out = packed(plane, height_, width_, 1, SE_FLOAT32, 4);
  if (widen_ == 0) {
    se_upsample(&exec_, plain_edges ? -1 : step_q8, &map, &picture, nullptr, &out);
    return;
  }
  const se_array raw = packed(raw_plane_.data(), height_, width_, 1, SE_FLOAT32, 4);
  se_upsample(&exec_, plain_edges ? -1 : step_q8, &map, &picture, nullptr, &raw);
  se_widen(&exec_, widen_, 256, &raw, &out);
}

namespace {

struct Affine {
  const float* from;
  float* to;
  int32_t width;
  float scale, offset;
  static void rows(const void* self, int32_t y0, int32_t y1) {
    const Affine& a = *static_cast<const Affine*>(self);
    const float* __restrict from = a.from + int64_t{y0} * a.width;
    float* __restrict to = a.to + int64_t{y0} * a.width;
    const int64_t n = int64_t{y1 - y0} * a.width;
    for (int64_t k = 0; k < n; ++k) to[k] = from[k] * a.scale + a.offset;
  }
};

}  // namespace

void PictureMaker::moves(const float* plane, float scale, float offset) {
  if (plane == nullptr) {
    std::fill(moves_.begin(), moves_.end(), offset);
    return;
  }
  const Affine affine{plane, moves_.data(), width_, scale, offset};
  parallel_rows(exec_.threads, height_, 1 + 65536 / (4 * width_ + 1), Affine::rows, &affine);
}

void PictureMaker::warp(const uint8_t* frame, int32_t scale_q8, bool fill, uint8_t* to) {
  const se_warp_params law{SE_EYE_RIGHT, SE_WARP_SURFACE, 512, 0};
  const se_array source = frame_of(frame), moves = packed(moves_.data(), height_, width_, 1, SE_FLOAT32, 4);
  const se_array view = frame_of(fill ? warped_.data() : to), out = frame_of(to);
  const se_array holes = packed(holes_.data(), height_, width_, 1, SE_UINT8, 1);
  const se_array map = packed(map_.data(), height_, width_, 1, SE_INT32, 4);
  const se_warp_view one{scale_q8, view, holes, map};
  se_warp_views(&exec_, &law, &source, &moves, 1, &one);
  if (fill) se_fill(&exec_, scale_q8 < 0 ? SE_EYE_LEFT : SE_EYE_RIGHT, &view, &holes, &map, &out);
}

void PictureMaker::lay(const Overlay& overlay, float eye, float shift, const se_array& view) const {
  const int32_t x0 = overlay.x - static_cast<int32_t>(std::lround(eye * overlay.disparity + shift));
  for (int32_t y = 0; y < overlay.height; ++y) {
    const int32_t vy = overlay.y + y;
    if (vy < 0 || vy >= height_) continue;
    for (int32_t x = std::max(0, -x0); x < overlay.width && x0 + x < width_; ++x) {
      const uint8_t* o = overlay.rgba.data() + 4 * (int64_t{y} * overlay.width + x);
      uint8_t* v = static_cast<uint8_t*>(view.data) + vy * view.stride_y + (x0 + x) * view.stride_x;
      for (int32_t c = 0; c < 3; ++c) {
        uint8_t* p = v + c * view.stride_c;
        *p = static_cast<uint8_t>((o[3] * o[c] + (255 - o[3]) * *p + 127) / 255);
      }
    }
  }
}

void PictureMaker::views(const uint8_t* frame, const float* plane, const se_session_params& params,
                         const Overlay* overlay) {
  left_view_ = right_view_ = frame;
  if (params.layout == SE_LAYOUT_DEPTH) return;
  const float range = params.strength / 100.0f * static_cast<float>(width_);
  const bool both = params.both != 0, fill = params.fill != 0;
  const float share = both ? 0.5f : 1.0f;
  if (plane != nullptr && range > 0) {
    moves(plane, share * params.strength / kPlaneRange, -share * params.convergence * range);
    warp(frame, 256, fill, right_.data());
    right_view_ = right_.data();
    if (both) {
      warp(frame, -256, fill, left_.data());
      left_view_ = left_.data();
    }
  }
  if (overlay != nullptr) {
    const size_t bytes = left_.size();
    if (left_view_ == frame) left_view_ = static_cast<uint8_t*>(std::memcpy(left_.data(), frame, bytes));
    if (right_view_ == frame) right_view_ = static_cast<uint8_t*>(std::memcpy(right_.data(), frame, bytes));
    lay(*overlay, both ? -0.5f : 0.0f, 0, frame_of(left_.data()));
    lay(*overlay, both ? 0.5f : 1.0f, 0, frame_of(right_.data()));
  }
  if (params.swap != 0) std::swap(left_view_, right_view_);
}

se_array PictureMaker::pack(const uint8_t* frame, const float* plane, const se_session_params& params, uint8_t* out) {
  se_array left = frame_of(left_view_), right = frame_of(right_view_);
  const int32_t half_width = std::max(1, width_ / 2), half_height = std::max(1, height_ / 2);
  switch (params.layout) {
    case SE_LAYOUT_HALF_SBS: {
      const se_array all = packed(out, height_, 2 * half_width, channels_, SE_UINT8, 1);
      se_array part = all;
      part.width = half_width;
      se_resample(&exec_, &left, &half_width_.view, &whole_height_.view, &part);
      part.data = out + int64_t{half_width} * channels_;
      se_resample(&exec_, &right, &half_width_.view, &whole_height_.view, &part);
      return all;
    }
    case SE_LAYOUT_HALF_TB: {
      const se_array all = packed(out, 2 * half_height, width_, channels_, SE_UINT8, 1);
      se_array part = all;
      part.height = half_height;
      se_resample(&exec_, &left, &whole_width_.view, &half_height_.view, &part);
      part.data = out + half_height * all.stride_y;
      se_resample(&exec_, &right, &whole_width_.view, &half_height_.view, &part);
      return all;
    }
    case SE_LAYOUT_ANAGLYPH: {
      left.channels = right.channels = 3;
      const se_array all = packed(out, height_, width_, 3, SE_UINT8, 1);
      se_anaglyph(&exec_, params.anaglyph, &left, &right, &all);
      return all;
    }
    case SE_LAYOUT_RIGHT: {
      const se_array all = frame_of(out);
      std::memcpy(out, right_view_, static_cast<size_t>(height_ * all.stride_y));
      return all;
    }
    case SE_LAYOUT_DEPTH: {
      const float scale = 255.0f / (kPlaneRange / 100.0f * static_cast<float>(width_));
      const int64_t n = int64_t{height_} * width_;
      for (int64_t k = 0; k < n; ++k) {
        const uint8_t grey = plane != nullptr ? static_cast<uint8_t>(std::clamp(plane[k] * scale + 0.5f, 0.0f, 255.0f)) : 0;
        for (int32_t c = 0; c < 3; ++c) out[k * channels_ + c] = grey;
        if (channels_ == 4) out[k * 4 + 3] = frame[k * 4 + 3];
      }
      return frame_of(out);
    }
    default: {
      const int32_t wide = params.layout == SE_LAYOUT_SBS ? 2 : 1, tall = params.layout == SE_LAYOUT_TB ? 2 : 1;
      const se_array all = packed(out, tall * height_, wide * width_, channels_, SE_UINT8, 1);
      se_pack(&exec_, params.layout, &left, &right, &all);  // the first five layouts are se_pack_layout's
      return all;
    }
  }
}

int32_t PictureMaker::view(const uint8_t* frame, const float* plane, const se_session_params& params,
                           const Overlay* overlay, float eye, float shift, const se_array& out) {
  const float range = params.strength / 100.0f * static_cast<float>(width_), size = std::abs(eye);
  // The right side is seen at x - moves, the left side at x + moves.
  const float slide = eye < 0 ? -shift : shift;
  moves(plane, size * params.strength / kPlaneRange, (plane != nullptr ? -size * params.convergence * range : 0.0f) + slide);
  warp(frame, eye < 0 ? -256 : 256, params.fill != 0, right_.data());
  if (overlay != nullptr) lay(*overlay, eye, shift, frame_of(right_.data()));
  for (int32_t y = 0; y < height_; ++y) {
    const uint8_t* from = right_.data() + int64_t{y} * width_ * channels_;
    uint8_t* to = static_cast<uint8_t*>(out.data) + y * out.stride_y;
    if (out.stride_c == 1 && out.stride_x == channels_) {
      std::memcpy(to, from, static_cast<size_t>(width_) * channels_);
      continue;
    }
    for (int32_t x = 0; x < width_; ++x)
      for (int32_t c = 0; c < channels_; ++c) to[x * out.stride_x + c * out.stride_c] = from[x * channels_ + c];
  }
  return SE_OK;
}

}  // namespace se
