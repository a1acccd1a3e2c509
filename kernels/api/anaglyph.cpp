// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_anaglyph(const se_exec* exec, const int32_t matrix[18], const se_array* left,
                               const se_array* right, const se_array* out) {
  SE_TRY(check_exec(exec));
  if (matrix == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_array(left, 1u << SE_UINT8, 3, 3));
  SE_TRY(check_array(right, 1u << SE_UINT8, 3, 3));
  SE_TRY(check_array(out, 1u << SE_UINT8, 3, 3));
  SE_TRY(check_same_shape(*left, *right));
  SE_TRY(check_same_shape(*left, *out));
  SE_TRY(check_disjoint(*out, *left));
  SE_TRY(check_disjoint(*out, *right));
  AnaglyphArgs args{view_of<const uint8_t>(*left), view_of<const uint8_t>(*right), view_of<uint8_t>(*out), {}};
  for (int32_t i = 0; i < 18; ++i) {
    if (matrix[i] < -65536 || matrix[i] > 65536) return SE_ERROR_BAD_PARAMETER;
    args.matrix[i / 6][i % 6] = matrix[i];
  }
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  // Arithmetic more than memory: small pieces, so that the threads end together.
  return run_rows(*exec, out->height, (grain_of(*out) + 3) / 4, args, op_table(exec->isa).anaglyph_rows);
}
