// SPDX-License-Identifier: Apache-2.0
#include "session/canvas.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/check.h"
#include "core/threads.h"
#include "cuda/graph.h"

namespace se {

namespace {

struct Copy {
  const se_array *from, *to;

  static void rows(const void* self, int32_t y0, int32_t y1) {
    const se_array &from = *static_cast<const Copy*>(self)->from, &to = *static_cast<const Copy*>(self)->to;
    const int32_t size = dtype_size(from.dtype);
    const int64_t pixel = int64_t{size} * from.channels;
    const bool whole = from.stride_c == size && to.stride_c == size && from.stride_x == pixel && to.stride_x == pixel;
    for (int32_t y = y0; y < y1; ++y) {
      const char* source = static_cast<const char*>(from.data) + y * from.stride_y;
      char* target = static_cast<char*>(to.data) + y * to.stride_y;
      if (whole) {
        std::memcpy(target, source, static_cast<size_t>(pixel * from.width));
        continue;
      }
      for (int32_t x = 0; x < from.width; ++x) {
        for (int32_t c = 0; c < from.channels; ++c) {
          const char* element = source + x * from.stride_x + c * from.stride_c;
          for (int32_t k = 0; k < size; ++k) target[x * to.stride_x + c * to.stride_c + k] = element[k];
        }
      }
    }
  }
};

}  // namespace

void copy_array(const se_array& from, const se_array& to, int32_t threads) {
  const Copy copy{&from, &to};
  if (threads == 1) return Copy::rows(&copy, 0, from.height);
  const int64_t row_bytes = int64_t{dtype_size(from.dtype)} * from.channels * from.width;
  parallel_rows(threads, from.height, static_cast<int32_t>(1 + (int64_t{1} << 20) / row_bytes), Copy::rows, &copy);
}

bool same_launches(const se_session_params& a, const se_session_params& b) {
  return a.layout == b.layout && a.both == b.both && a.fill == b.fill && (a.strength > 0) == (b.strength > 0);
}

DeviceAxis::DeviceAxis(int32_t device, const AxisTable& table) : view(table.view) {
  const auto ints = [](const std::vector<int32_t>& values) { return values.size() * sizeof(int32_t); };
  memory_ = DeviceMemory(device, ints(table.first) + ints(table.count) + ints(table.weights));
  int32_t* to = memory_.as<int32_t>();
  const auto put = [&](const int32_t** place, const std::vector<int32_t>& values) {
    if (fill_frame_memory(device, to, values.data(), ints(values)) != SE_OK) throw std::bad_alloc();
    *place = to;
    to += values.size();
  };
  put(&view.first, table.first);
  put(&view.count, table.count);
  put(&view.weights, table.weights);
}

Canvas::Canvas(int32_t device, int32_t width, int32_t height, int32_t channels, int32_t map_width, int32_t map_height, int32_t widen)
    : device_(device), width_(width), height_(height), channels_(channels), widen_(widen),
      half_width_(device, area_axis(width, std::max(1, width / 2))), half_height_(device, area_axis(height, std::max(1, height / 2))),
      whole_width_(device, area_axis(width, width)), whole_height_(device, area_axis(height, height)) {
  cells_ = floats(map_height, map_width);
  moves = floats(height, width);
  warped_ = picture();
  left = picture();
  right = picture();
  holes = packed(own(int64_t{width} * height), height, width, 1, SE_UINT8, 1);
  map = packed(own(int64_t{4} * width * height), height, width, 1, SE_INT32, 4);
  for (const DeviceAxis* axis : {&half_width_, &half_height_, &whole_width_, &whole_height_}) bytes_ += axis->bytes();
}

void* Canvas::own(int64_t bytes) {
  owned_.emplace_back(device_, static_cast<size_t>(bytes));
  bytes_ += bytes;
  return owned_.back().data();
}

int32_t Canvas::plane(const se_exec& exec, const se_array& nearness, const se_array& picture, bool plain_edges, const se_array& plane) {
  const float range = kPlaneRange / 100.0f * static_cast<float>(width_);
  SE_TRY(se_level(&exec, range, 0, &nearness, &cells_));
  const int32_t step_q8 = plain_edges ? -1 : std::max(256, static_cast<int32_t>(16.0f * range));
  // A map of the picture's own size has the picture's edges already. Steps go to and fro, and the last one ends in plane.
  const bool smooth = cells_.height < height_ || cells_.width < width_, wide = widen_ > 0;
  const se_array *from = smooth == wide ? &plane : &moves, *to = smooth == wide ? &moves : &plane;
  SE_TRY(se_upsample(&exec, step_q8, &cells_, &picture, nullptr, from));
  if (wide) {
    SE_TRY(se_widen(&exec, widen_, 256, from, to));
    std::swap(from, to);
  }
  return smooth ? se_smooth(&exec, 256, from, to) : SE_OK;
}

int32_t Canvas::warp(const se_exec& exec, se_array source, bool from_left, bool turned, bool fill, se_array to) {
  const se_warp_params law{SE_EYE_RIGHT, SE_WARP_SURFACE, 512, 0};
  const auto as_is = [turned](se_array a) {
    if (turned) {
      std::swap(a.height, a.width);
      std::swap(a.stride_y, a.stride_x);
    }
    return a;
  };
  // A view that is made upward is made of the picture that it takes the place of. What fills holes is read beside them.
  source = as_is(source);
  const se_array view = as_is(turned ? warped_ : to), by = as_is(moves), empty = as_is(holes), back = as_is(map);
  const se_warp_view one{from_left ? -256 : 256, view, empty, back};
  SE_TRY(se_warp_views(&exec, &law, &source, &by, 1, &one));
  if (fill) SE_TRY(se_fill(&exec, from_left ? SE_EYE_LEFT : SE_EYE_RIGHT, &view, &empty, &back, &view));
  return turned ? se_pack(&exec, SE_PACK_ROWS, &warped_, &warped_, &to) : SE_OK;
}

int32_t Canvas::lay_out(const se_exec& exec, const se_session_params& params, se_array first, se_array second, const se_array& out) const {
  switch (params.layout) {
    case SE_LAYOUT_HALF_SBS:
    case SE_LAYOUT_HALF_TB: {
      const bool wide = params.layout == SE_LAYOUT_HALF_SBS;
      if ((wide ? width_ : height_) % 2 == 0) return se_pack(&exec, params.layout, &first, &second, &out);
      se_array part = out;
      (wide ? part.width : part.height) /= 2;
      const se_resample_axis &x = (wide ? half_width_ : whole_width_).view, &y = (wide ? whole_height_ : half_height_).view;
      SE_TRY(se_resample(&exec, &first, &x, &y, &part));
      part.data = static_cast<uint8_t*>(part.data) + (wide ? part.width * part.stride_x : part.height * part.stride_y);
      return se_resample(&exec, &second, &x, &y, &part);
    }
    case SE_LAYOUT_ANAGLYPH:
      first.channels = second.channels = 3;
      return se_anaglyph(&exec, params.anaglyph, &first, &second, &out);
    case SE_LAYOUT_RIGHT: return se_pack(&exec, SE_PACK_ROWS, &second, &second, &out);  // a copy
    default: return se_pack(&exec, params.layout, &first, &second, &out);  // these layouts are se_pack_layout's
  }
}

int32_t Canvas::frame(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* nearness,
                      bool plain_edges, const se_array& plane, const se_array& out) {
  se_array first = picture, second = picture;
  if (nearness != nullptr && params.strength > 0) {
    SE_TRY(this->plane(exec, *nearness, picture, plain_edges, plane));
    const float share = params.both != 0 ? 0.5f : 1.0f, range = params.strength / 100.0f * static_cast<float>(width_);
    SE_TRY(se_level(&exec, share * params.strength / kPlaneRange, -share * params.convergence * range, &plane, &moves));
    SE_TRY(warp(exec, picture, false, false, params.fill != 0, right));
    second = right;
    if (params.both != 0) {
      SE_TRY(warp(exec, picture, true, false, params.fill != 0, left));
      first = left;
    }
  }
  if (params.swap != 0) std::swap(first, second);
  return lay_out(exec, params, first, second, out);
}

void Canvas::shape(int32_t layout, int32_t* height, int32_t* width, int32_t* channels) const {
  *height = height_;
  *width = width_;
  *channels = layout == SE_LAYOUT_ANAGLYPH ? 3 : channels_;
  if (layout == SE_LAYOUT_SBS) *width *= 2;
  if (layout == SE_LAYOUT_TB) *height *= 2;
  if (layout == SE_LAYOUT_HALF_SBS) *width = 2 * std::max(1, width_ / 2);
  if (layout == SE_LAYOUT_HALF_TB) *height = 2 * std::max(1, height_ / 2);
}

}  // namespace se
