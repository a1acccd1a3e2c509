// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

namespace {

constexpr int64_t kMaxCells = int64_t{1} << 24;

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
  if (runs_blocks(*exec)) {
    if (base::UpsampleTileBlocks::takes(args)) return run_blocks(*exec, UpsampleTileArgs{args});
    return run_blocks(*exec, args);
  }
  // The tables live in memory of the calling thread's own, apart from the row functions' scratch.
  const int64_t width = out->width;
  int32_t* memory = static_cast<int32_t*>(thread_scratch(4 * (4 * cells + cells / 2 + 1 + h + 2 * width + 2 * w + 1), kTableSlot));
  if (memory == nullptr) return SE_ERROR_OUT_OF_MEMORY;
  int32_t *q = memory, *low = q + cells, *high = low + cells, *greatest = high + cells, *column = greatest + h;
  int32_t *fraction = column + width, *begin = fraction + width, *centre = begin + w + 1;
  uint8_t* guide = reinterpret_cast<uint8_t*>(centre + w);
  uint16_t* label = reinterpret_cast<uint16_t*>(guide + 4 * cells);
  const OpTable& table = op_table(exec->isa);
  for (int32_t s = 0; s < w; ++s) centre[s] = base::upsample_centre(s, w, picture->width);
  const UpsampleBuild build{args.map, args.picture, args.labels, q, low, high, greatest, guide, label, args.guided != 0 ? centre : nullptr};
  const int32_t grain = 1 + 8192 / w;
  SE_TRY(run_rows(*exec, h, grain, build, table.upsample_cell_rows));
  if (args.guided != 0) SE_TRY(run_rows(*exec, h, grain, build, table.upsample_window_rows, int64_t{8} * w));
  int32_t most = 0;
  for (int32_t r = 0; r < h; ++r) most = max_i32(most, greatest[r]);
  int32_t cell = 0;
  for (int32_t x = 0; x < out->width; ++x) {
    const int32_t position = base::upsample_position(x, w, out->width);
    column[x] = position >> 8;
    fraction[x] = position & 255;
    for (; cell <= (position + 128) >> 8; ++cell) begin[cell] = x;
  }
  for (; cell <= w; ++cell) begin[cell] = out->width;
  args.tables = {q, low, high, column, fraction, begin, guide, label, most};
  return run_rows(*exec, out->height, grain_of(*out), args, table.upsample_rows,
                  int64_t{8} * (w + 1));
}
