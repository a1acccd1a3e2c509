// SPDX-License-Identifier: Apache-2.0
#include "session/canvas.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "core/run.h"
#include "cuda/launch.h"

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

// An op that has no entry of its own: rows of `out` on the CPU, else blocks.
template <typename Args>
int32_t run(const se_exec& exec, const se_array& out, const Args& args, void (*OpTable::*rows)(const Args&, int32_t, int32_t)) {
  if (runs_blocks(exec)) return run_blocks(exec, args);
  return run_rows(exec, out.height, grain_of(out), args, op_table(exec.isa).*rows);
}

Memory3 mirrored(const Memory3& m) { return {se::mirrored(m.age), se::mirrored(m.paint), se::mirrored(m.level)}; }

// A head that is rolled takes its eyes along.
Eye rolled(float across, float down, float shift, float degrees) {
  const double angle = static_cast<double>(degrees) * 3.14159265358979323846 / 180.0, c = std::cos(angle), s = std::sin(angle);
  return {static_cast<float>(across * c - down * s), static_cast<float>(across * s + down * c), shift};
}

// The columns and rows of `a` that lie in `b` when a's corner is at (x, y) of b; of both.
void overlap(se_array* a, se_array* b, int32_t x, int32_t y) {
  const auto cut = [](se_array* part, int32_t x0, int32_t y0, int32_t width, int32_t height) {
    part->data = static_cast<uint8_t*>(part->data) + y0 * part->stride_y + x0 * part->stride_x;
    part->width = width;
    part->height = height;
  };
  const int32_t ax = std::max(0, -x), ay = std::max(0, -y), bx = std::max(0, x), by = std::max(0, y);
  const int32_t width = std::min(a->width - ax, b->width - bx), height = std::min(a->height - ay, b->height - by);
  if (width <= 0 || height <= 0) {
    cut(a, 0, 0, 0, 0);
    cut(b, 0, 0, 0, 0);
    return;
  }
  cut(a, ax, ay, width, height);
  cut(b, bx, by, width, height);
}

}  // namespace

void copy_array(const se_array& from, const se_array& to, int32_t threads) {
  const Copy copy{&from, &to};
  if (threads == 1) return Copy::rows(&copy, 0, from.height);
  const int64_t row_bytes = int64_t{dtype_size(from.dtype)} * from.channels * from.width;
  parallel_rows(threads, from.height, static_cast<int32_t>(1 + (int64_t{1} << 20) / row_bytes), Copy::rows, &copy);
}

int32_t read_nv12(const se_exec& exec, const se_session_config& config, const se_array& frame, const se_array& to) {
  se_array luma = frame;
  luma.height = config.height;
  const se_array chroma{static_cast<uint8_t*>(frame.data) + config.height * frame.stride_y, (config.height + 1) / 2, config.width / 2, 2,
                        SE_UINT8, frame.stride_y, 2, 1};
  return se_nv12(&exec, config.standard, config.full_range, &luma, &chroma, &to);
}

bool same_launches(const se_session_params& a, const se_session_params& b) {
  const auto sign = [](float v) { return (v > 0) - (v < 0); };
  return a.layout == b.layout && a.both == b.both && a.fill == b.fill && sign(a.strength) == sign(b.strength) && sign(a.roll) == sign(b.roll);
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

Placed::Placed(int32_t device, const se_array& from)
    : memory(device, static_cast<size_t>(from.width) * from.height * from.channels),
      array(packed(memory.data(), from.height, from.width, from.channels, SE_UINT8, 1)) {
  std::vector<uint8_t> whole(device == SE_CPU ? 0 : memory.size());
  se_array here = array;
  if (device != SE_CPU) here.data = whole.data();
  copy_array(from, here);
  if (device != SE_CPU && fill_frame_memory(device, memory.data(), whole.data(), whole.size()) != SE_OK) throw std::bad_alloc();
}

Canvas::Canvas(int32_t device, int32_t width, int32_t height, int32_t channels, int32_t map_width, int32_t map_height, int32_t widen)
    : device_(device), width_(width), height_(height), channels_(channels), widen_(widen),
      half_width_(device, area_axis(width, std::max(1, width / 2))), half_height_(device, area_axis(height, std::max(1, height / 2))),
      whole_width_(device, area_axis(width, width)), whole_height_(device, area_axis(height, height)) {
  cells_ = floats(map_height, map_width);
  moves_ = floats(height, width);
  warped_ = picture();
  left_ = picture();
  right_ = picture();
  holes_ = packed(own(int64_t{width} * height), height, width, 1, SE_UINT8, 1);
  map_ = packed(own(int64_t{4} * width * height), height, width, 1, SE_INT32, 4);
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
  const se_array *from = smooth == wide ? &plane : &moves_, *to = smooth == wide ? &moves_ : &plane;
  SE_TRY(se_upsample(&exec, step_q8, &cells_, &picture, nullptr, from));
  if (wide) {
    SE_TRY(se_widen(&exec, widen_, 256, from, to));
    std::swap(from, to);
  }
  return smooth ? se_smooth(&exec, 256, from, to) : SE_OK;
}

int32_t Canvas::warp(const se_exec& exec, se_array source, bool from_left, bool turned, bool fill, const se_array& to) {
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
  const se_array view = as_is(turned ? warped_ : to), by = as_is(moves_), empty = as_is(holes_), back = as_is(map_);
  const se_warp_view one{from_left ? -256 : 256, view, empty, back};
  SE_TRY(se_warp_views(&exec, &law, &source, &by, 1, &one));
  if (fill) SE_TRY(se_fill(&exec, from_left ? SE_EYE_LEFT : SE_EYE_RIGHT, &view, &empty, &back, &view));
  return turned ? se_pack(&exec, SE_PACK_ROWS, &warped_, &warped_, &to) : SE_OK;
}

int32_t Canvas::pack(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane,
                     const se_array& out) const {
  se_array first = first_, second = second_;
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
    case SE_LAYOUT_DEPTH: {
      const float scale = 255.0f / (kPlaneRange / 100.0f * static_cast<float>(width_));
      GreyArgs grey{{}, view_of<const uint8_t>(picture), view_of<uint8_t>(out), scale};
      if (plane != nullptr) grey.plane = view_of<const float>(*plane);
      return run(exec, out, grey, &OpTable::grey_rows);
    }
    default: return se_pack(&exec, params.layout, &first, &second, &out);  // these layouts are se_pack_layout's
  }
}

int32_t Canvas::follow(const se_exec& exec, const se_array& picture, const se_array& plane, const Background& now,
                       const Background::Since& since) const {
  constexpr float kTolerance = 0.06f;  // of the range, up to which two depths are one surface's
  FollowArgs args{view_of<const float>(plane), view_of<const uint8_t>(picture), {}, now.memory(),
                  kTolerance * (kPlaneRange / 100.0f * static_cast<float>(width_)), since.dx, since.dy};
  if (since.before != nullptr) args.before = since.before->memory();
  return run(exec, picture, args, &OpTable::follow_rows);
}

int32_t Canvas::lay(const se_exec& exec, const Overlay& overlay, const Eye& at, const se_array& view) const {
  se_array over = overlay.rgba.array, to = view;
  overlap(&over, &to, overlay.x - static_cast<int32_t>(std::lround(at.across * overlay.disparity + at.shift)),
          overlay.y - static_cast<int32_t>(std::lround(at.down * overlay.disparity)));
  return run(exec, to, LayArgs{view_of<const uint8_t>(over), view_of<uint8_t>(to)}, &OpTable::lay_rows);
}

// What stays flat is put back as it is in the picture, over whatever came to lie there.
int32_t Canvas::keep(const se_exec& exec, const se_array& picture, const FlatMask& mask, const Eye& at, const se_array& view) const {
  const auto dx = static_cast<int32_t>(std::lround(at.across * mask.disparity + at.shift));
  const auto dy = static_cast<int32_t>(std::lround(at.down * mask.disparity));
  se_array from = picture, cover = mask.cover.array, to = view, again = view;
  overlap(&from, &to, -dx, -dy);
  overlap(&cover, &again, -dx, -dy);
  return run(exec, to, KeepArgs{view_of<const uint8_t>(from), view_of<const uint8_t>(cover), view_of<uint8_t>(to)}, &OpTable::keep_rows);
}

// Sideways first; down or up from there, by the depth that each pixel of that view is of.
int32_t Canvas::eye(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane,
                    const Extras& extras, const Eye& at, bool moved, const se_array& to) {
  const float range = params.strength / 100.0f * static_cast<float>(width_);
  const FlatMask* mask = extras.mask.get();
  const bool from_left = at.across < 0, fill = params.fill != 0;
  // The right side is seen at x - moves, the left side at x + moves.
  const float slide = from_left ? -at.shift : at.shift, size = std::abs(at.across), drop = std::abs(at.down);
  MovesArgs moves{{}, {}, view_of<float>(moves_), size * params.strength / kPlaneRange, slide, 0.0f};
  if (plane != nullptr) {
    moves.plane = view_of<const float>(*plane);
    moves.offset = -size * params.convergence * range + slide;
  }
  if (mask != nullptr) {
    moves.cover = view_of<const uint8_t>(mask->cover.array);
    moves.flat = size * mask->disparity + slide;
  }
  if (!moved) SE_TRY(run(exec, moves_, moves, &OpTable::moves_rows));
  SE_TRY(warp(exec, picture, from_left, false, fill, to));
  View<const int32_t> map = view_of<const int32_t>(map_);
  if (from_left) map = se::mirrored(map);
  if (extras.background != nullptr && fill && plane != nullptr) {
    RecallArgs recall{map, extras.background->memory(), view_of<uint8_t>(to), moves.scale, moves.offset};
    if (from_left) recall = {map, mirrored(recall.memory), se::mirrored(recall.to), moves.scale, moves.offset};
    SE_TRY(run(exec, to, recall, &OpTable::recall_rows));
  }
  if (drop > 0 && plane != nullptr) {
    moves.scale = drop * params.strength / kPlaneRange;
    moves.offset = -drop * params.convergence * range;
    moves.flat = mask != nullptr ? drop * mask->disparity : 0.0f;
    if (from_left) {
      moves.plane = se::mirrored(moves.plane);
      if (mask != nullptr) moves.cover = se::mirrored(moves.cover);
      moves.out = se::mirrored(moves.out);
    }
    SE_TRY(run(exec, moves_, ViewMovesArgs{moves, map}, &OpTable::view_moves_rows));
    SE_TRY(warp(exec, to, at.down < 0, true, fill, to));
  }
  if (mask != nullptr) SE_TRY(keep(exec, picture, *mask, at, to));
  return extras.overlay != nullptr ? lay(exec, *extras.overlay, at, to) : SE_OK;
}

int32_t Canvas::view(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane,
                     const Extras& extras, const Eye& at, se_array* made) {
  *made = right_;
  return eye(exec, params, picture, plane, extras, rolled(at.across, at.down, at.shift, params.roll), false, right_);
}

int32_t Canvas::views(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane,
                      const Extras& extras) {
  first_ = second_ = picture;
  if (params.layout == SE_LAYOUT_DEPTH) return SE_OK;
  const bool both = params.both != 0;
  const Eye left = rolled(both ? -0.5f : 0.0f, 0, 0, params.roll), right = rolled(both ? 0.5f : 1.0f, 0, 0, params.roll);
  if (plane != nullptr && params.strength > 0) {
    SE_TRY(eye(exec, params, picture, plane, extras, right, false, right_));
    second_ = right_;
    if (both) {
      SE_TRY(eye(exec, params, picture, plane, extras, left, right.down == 0, left_));
      first_ = left_;
    }
  }
  if (extras.overlay != nullptr) {
    const auto over = [&](se_array* view, const se_array& own, const Eye& at) {
      if (view->data == own.data) return static_cast<int32_t>(SE_OK);
      SE_TRY(se_pack(&exec, SE_PACK_ROWS, view, view, &own));  // a copy
      *view = own;
      return lay(exec, *extras.overlay, at, own);
    };
    SE_TRY(over(&first_, left_, left));
    SE_TRY(over(&second_, right_, right));
  }
  if (params.swap != 0) std::swap(first_, second_);
  return SE_OK;
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
