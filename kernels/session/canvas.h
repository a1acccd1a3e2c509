// SPDX-License-Identifier: Apache-2.0
// The memory in which a frame becomes a stereo picture, on any device, and the steps that take it there: one meaning for
// sessions (picture.h) and for the frame path (secondeye/frame.h).
#pragma once
#include <vector>

#include "cuda/graph.h"
#include "secondeye/session.h"
#include "session/background.h"
#include "session/depth.h"

namespace se {

// A view of packed memory: [height, width, channels] of elements of `size` bytes.
inline se_array packed(const void* data, int32_t height, int32_t width, int32_t channels, int32_t dtype, int32_t size) {
  const int64_t step = int64_t{size} * channels;
  return se_array{const_cast<void*>(data), height, width, channels, dtype, step * width, step, size};
}

// The pixels of one array in another of its shape and type, whatever the strides of both; in host memory.
// threads: as parallel_rows'; 1 stays on the caller's.
void copy_array(const se_array& from, const se_array& to, int32_t threads = 1);

// A session's frame in NV12, luma above chroma in one array, as a picture.
int32_t read_nv12(const se_exec& exec, const se_session_config& config, const se_array& frame, const se_array& to);

// Of frames that cross to a GPU: one thread copies slower than the bus carries.
constexpr int32_t kCopyThreads = 4;

// Whether frames under both are the same launches with other arguments.
bool same_launches(const se_session_params& a, const se_session_params& b);

// The full-size plane holds kPlaneRange percent of the width for nearness 0..1; views scale it to their strength.
constexpr float kPlaneRange = 4.0f;

// An axis whose tables lie where the work is done. Throws std::bad_alloc.
class DeviceAxis {
 public:
  DeviceAxis() = default;
  DeviceAxis(int32_t device, const AxisTable& table);
  int64_t bytes() const { return static_cast<int64_t>(memory_.size()); }
  se_resample_axis view{};

 private:
  DeviceMemory memory_;
};

// A picture of the caller's, uint8 on the host, where the work is done. Throws std::bad_alloc.
struct Placed {
  Placed(int32_t device, const se_array& from);
  DeviceMemory memory;
  se_array array;
};

// Lies over every view, its corner at (x, y): uint8 [h, w, 4].
struct Overlay {
  Placed rgba;
  int32_t x, y;
  float disparity;
};

// What in the frame itself stays flat: uint8 [H, W], not 0 where it does.
struct FlatMask {
  Placed cover;
  float disparity;
};

// What lies over the views, and what was behind things before; null where there is none.
struct Extras {
  std::shared_ptr<const Overlay> overlay;
  std::shared_ptr<const FlatMask> mask;
  const Background* background = nullptr;
};

// Where a view's eye stands, in shares of a pair's distance; shift moves the view to the left, pixels.
struct Eye {
  float across, down, shift;
};

class Canvas {
 public:
  // Throws std::bad_alloc.
  Canvas(int32_t device, int32_t width, int32_t height, int32_t channels, int32_t map_width, int32_t map_height, int32_t widen);
  Canvas(const Canvas&) = delete;
  Canvas& operator=(const Canvas&) = delete;

  // Memory of the canvas's own, on its device.
  se_array picture() { return packed(own(int64_t{width_} * height_ * channels_), height_, width_, channels_, SE_UINT8, 1); }
  se_array floats(int32_t height, int32_t width) { return packed(own(int64_t{4} * width * height), height, width, 1, SE_FLOAT32, 4); }

  // nearness [map_height, map_width], 0 far .. 1 near -> plane: float [H, W].
  int32_t plane(const se_exec& exec, const se_array& nearness, const se_array& picture, bool plain_edges, const se_array& plane);

  // What lies behind a picture's things, as of now, from what lay there before.
  int32_t follow(const se_exec& exec, const se_array& picture, const se_array& plane, const Background& now, const Background::Since& since) const;

  // The views of a picture, by its plane (null: it is flat), in this canvas's memory or the picture itself; then pack puts them
  // into out, which is of the layout's shape.
  int32_t views(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane, const Extras& extras);
  int32_t pack(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane, const se_array& out) const;

  // One view, for an eye anywhere, which stays in this canvas's memory until the next.
  int32_t view(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane,
               const Extras& extras, const Eye& at, se_array* made);

  // The shape of a layout's picture.
  void shape(int32_t layout, int32_t* height, int32_t* width, int32_t* channels) const;

  int64_t bytes() const { return bytes_; }

 private:
  void* own(int64_t bytes);
  // moves_ are at's already where `moved`.
  int32_t eye(const se_exec& exec, const se_session_params& params, const se_array& picture, const se_array* plane,
              const Extras& extras, const Eye& at, bool moved, const se_array& to);
  // A warp to the left of `source` by moves_ (from_left: of the view on its other side), or (turned) upward: the same law
  // over the columns. holes_ and map_ are that view's.
  int32_t warp(const se_exec& exec, se_array source, bool from_left, bool turned, bool fill, const se_array& to);
  int32_t lay(const se_exec& exec, const Overlay& overlay, const Eye& at, const se_array& view) const;
  int32_t keep(const se_exec& exec, const se_array& picture, const FlatMask& mask, const Eye& at, const se_array& view) const;

  const int32_t device_, width_, height_, channels_, widen_;
  std::vector<DeviceMemory> owned_;
  int64_t bytes_ = 0;
  se_array cells_{}, moves_{}, warped_{}, left_{}, right_{}, holes_{}, map_{};  // floats, pictures, uint8, int32
  se_array first_{}, second_{};  // the views
  DeviceAxis half_width_, half_height_, whole_width_, whole_height_;
};

}  // namespace se
