// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

namespace {

constexpr int64_t kMaxCells = int64_t{1} << 24;

// Least (or greatest, with sign -1) of the 5 cells round each cell along one axis.
void window_least(const int32_t* from, int32_t* to, int32_t lines, int32_t length, int64_t line_step, int64_t step,
                  int32_t sign) {
  for (int32_t i = 0; i < lines; ++i) {
    const int32_t* f = from + i * line_step;
    int32_t* t = to + i * line_step;
    for (int32_t j = 0; j < length; ++j) {
      int32_t m = sign * f[j * step];
      for (int32_t k = max_i32(0, j - 2); k <= min_i32(length - 1, j + 2); ++k) m = min_i32(m, sign * f[k * step]);
      t[j * step] = sign * m;
    }
  }
}

}  // namespace

extern "C" int32_t se_upsample(const se_exec* exec, int32_t threshold_q8, const se_array* map,
                               const se_array* picture, const se_array* labels, const se_array* out) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_array(map, 1u << SE_FLOAT32, 1, 1));
  SE_TRY(check_array(picture, 1u << SE_UINT8, 3, 4));
  SE_TRY(check_plane(out, SE_FLOAT32, *picture));
  if (labels != nullptr) {
    SE_TRY(check_plane(labels, SE_UINT16, *picture));
    SE_TRY(check_disjoint(*out, *labels));
  }
  SE_TRY(check_disjoint(*out, *map));
  SE_TRY(check_disjoint(*out, *picture));
  const int32_t h = map->height, w = map->width;
  const int64_t cells = int64_t{h} * w;
  if (cells > kMaxCells) return SE_ERROR_BAD_SHAPE;
  UpsampleArgs args{view_of<const float>(*map), view_of<const uint8_t>(*picture), {}, view_of<float>(*out),
                    threshold_q8 >= 0 ? 1 : 0, threshold_q8, {}};
  if (labels != nullptr) args.labels = view_of<const uint16_t>(*labels);
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  // The tables live in memory of the calling thread's own, apart from the row functions' scratch.
  const int64_t width = out->width;
  int32_t* memory = static_cast<int32_t*>(thread_scratch(4 * (6 * cells + 2 * width + w + 1), kTableSlot));
  if (memory == nullptr) return SE_ERROR_OUT_OF_MEMORY;
  int32_t *q = memory, *low = q + cells, *high = low + cells, *work = high + cells, *column = work + cells;
  int32_t *fraction = column + width, *begin = fraction + width;
  uint8_t* guide = reinterpret_cast<uint8_t*>(begin + w + 1);
  uint16_t* label = reinterpret_cast<uint16_t*>(guide + 4 * cells);
  int32_t greatest = 0;
  for (int32_t y = 0; y < h; ++y) {
    for (int32_t x = 0; x < w; ++x) {
      const int32_t v = disparity_q8(*args.map.at(y, x));
      q[int64_t{y} * w + x] = v;
      greatest = max_i32(greatest, v < 0 ? -v : v);
    }
  }
  int32_t cell = 0;
  for (int32_t x = 0; x < out->width; ++x) {
    const int32_t position = base::upsample_position(x, w, out->width);
    column[x] = position >> 8;
    fraction[x] = position & 255;
    for (; cell <= (position + 128) >> 8; ++cell) begin[cell] = x;
  }
  for (; cell <= w; ++cell) begin[cell] = out->width;
  args.tables = {q, low, high, column, fraction, begin, guide, label, greatest};
  if (args.guided != 0) {
    window_least(q, work, h, w, w, 1, 1);
    window_least(work, low, w, h, 1, w, 1);
    window_least(q, work, h, w, w, 1, -1);
    window_least(work, high, w, h, 1, w, -1);
    for (int32_t y = 0; y < h; ++y) {
      const int32_t py = base::upsample_centre(y, h, picture->height);
      for (int32_t x = 0; x < w; ++x) {
        const int32_t px = base::upsample_centre(x, w, picture->width);
        label[int64_t{y} * w + x] = labels != nullptr ? *args.labels.at(py, px) : 0;
        for (int32_t c = 0; c < 3; ++c) guide[4 * (int64_t{y} * w + x) + c] = *args.picture.at(py, px, c);
      }
    }
  }
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).upsample_rows,
                  int64_t{8} * (w + 1));
}
