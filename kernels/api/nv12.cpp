// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

namespace {

// From the shares of red and blue in luma; limited range spans 16..235 and 16..240.
void matrix_of(int32_t standard, bool full, int32_t matrix[5]) {
  const double red[] = {0.299, 0.2126, 0.2627}, blue[] = {0.114, 0.0722, 0.0593};
  const double kr = red[standard], kb = blue[standard], kg = 1 - kr - kb;
  const double luma = full ? 1.0 : 255.0 / 219.0, chroma = full ? 1.0 : 255.0 / 224.0;
  const auto q16 = [](double v) { return static_cast<int32_t>(std::lround(v * 65536)); };
  matrix[0] = q16(luma);
  matrix[1] = q16(2 * (1 - kr) * chroma);
  matrix[2] = q16(-2 * (1 - kb) * kb / kg * chroma);
  matrix[3] = q16(-2 * (1 - kr) * kr / kg * chroma);
  matrix[4] = q16(2 * (1 - kb) * chroma);
}

}  // namespace

extern "C" int32_t se_nv12(const se_exec* exec, int32_t standard, int32_t full, const se_array* luma, const se_array* chroma,
                           const se_array* out) {
  SE_TRY(check_exec(exec));
  if (standard < SE_BT601 || standard > SE_BT2020) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(check_array(luma, 1u << SE_UINT8, 1, 1));
  SE_TRY(check_array(chroma, 1u << SE_UINT8, 2, 2));
  SE_TRY(check_array(out, 1u << SE_UINT8, 3, 4));
  if (chroma->height != (luma->height + 1) / 2 || chroma->width != (luma->width + 1) / 2) return SE_ERROR_BAD_SHAPE;
  if (out->height != luma->height || out->width != luma->width) return SE_ERROR_BAD_SHAPE;
  SE_TRY(check_disjoint(*out, *luma));
  SE_TRY(check_disjoint(*out, *chroma));
  Nv12Args args{view_of<const uint8_t>(*luma), view_of<const uint8_t>(*chroma), view_of<uint8_t>(*out), {}, full != 0 ? 0 : 16};
  matrix_of(standard, full != 0, args.matrix);
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).nv12_rows);
}
