// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

extern "C" int32_t se_pack(const se_exec* exec, int32_t layout, const se_array* left, const se_array* right,
                const se_array* out) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_array(left, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_array(right, 1u << SE_UINT8, 1, 4));
  if (layout < SE_PACK_SBS || layout > SE_PACK_HALF_TB) return SE_ERROR_BAD_PARAMETER;
  // The output's limit is the inputs', doubled along the packed axis.
  SE_TRY(check_array(out, 1u << SE_UINT8, 1, 4, 2 * SE_MAX_WIDTH));
  SE_TRY(check_same_shape(*left, *right));
  const int32_t wide = layout == SE_PACK_SBS ? 2 : 1;
  const int32_t tall = layout == SE_PACK_TB ? 2 : 1;
  if (out->height != left->height * tall || out->width != left->width * wide || out->channels != left->channels)
    return SE_ERROR_BAD_SHAPE;
  if (layout == SE_PACK_HALF_SBS && left->width % 2 != 0) return SE_ERROR_BAD_SHAPE;
  if (layout == SE_PACK_HALF_TB && left->height % 2 != 0) return SE_ERROR_BAD_SHAPE;
  SE_TRY(check_disjoint(*out, *left));
  SE_TRY(check_disjoint(*out, *right));
  const PackArgs args{view_of<const uint8_t>(*left), view_of<const uint8_t>(*right), view_of<uint8_t>(*out), layout};
  if (runs_blocks(*exec)) return run_blocks(*exec, args);
  return run_rows(*exec, out->height, grain_of(*out), args, op_table(exec->isa).pack_rows);
}
