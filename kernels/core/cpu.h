// SPDX-License-Identifier: Apache-2.0
// The table of row functions, one per instruction set; chosen at run time.
#pragma once
#include "ops/anaglyph.op.h"
#include "ops/blend.op.h"
#include "ops/fill.op.h"
#include "ops/flat.op.h"
#include "ops/grey.op.h"
#include "ops/level.op.h"
#include "ops/mask.op.h"
#include "ops/motion.op.h"
#include "ops/moves.op.h"
#include "ops/nv12.op.h"
#include "ops/pack.op.h"
#include "ops/remember.op.h"
#include "ops/resample.op.h"
#include "ops/restore.op.h"
#include "ops/smooth.op.h"
#include "ops/upsample.op.h"
#include "ops/warp.op.h"
#include "ops/widen.op.h"

namespace se {

struct OpTable {
  void (*anaglyph_rows)(const AnaglyphArgs& args, int32_t y0, int32_t y1);
  void (*blend_rows)(const BlendArgs& args, int32_t y0, int32_t y1);
  void (*cells_rows)(const CellsArgs& args, int32_t y0, int32_t y1);
  void (*feather_rows)(const FeatherArgs& args, int32_t y0, int32_t y1, uint8_t* scratch);
  void (*fill_rows)(const FillArgs& args, int32_t y0, int32_t y1, int32_t* scratch);
  void (*follow_rows)(const FollowArgs& args, int32_t y0, int32_t y1);
  void (*grey_rows)(const GreyArgs& args, int32_t y0, int32_t y1);
  void (*keep_rows)(const KeepArgs& args, int32_t y0, int32_t y1);
  void (*lay_rows)(const LayArgs& args, int32_t y0, int32_t y1);
  void (*level_rows)(const LevelArgs& args, int32_t y0, int32_t y1);
  void (*mask_rows)(const MaskArgs& args, int32_t y0, int32_t y1, int32_t* scratch);
  void (*motion_rows)(const MotionArgs& args, int32_t i0, int32_t i1);
  void (*moves_rows)(const MovesArgs& args, int32_t y0, int32_t y1);
  void (*nv12_rows)(const Nv12Args& args, int32_t y0, int32_t y1);
  void (*pack_rows)(const PackArgs& args, int32_t y0, int32_t y1);
  void (*recall_rows)(const RecallArgs& args, int32_t y0, int32_t y1);
  void (*resample_rows)(const ResampleArgs& args, int32_t y0, int32_t y1, int32_t* scratch);
  void (*restore_rows)(const RestoreArgs& args, int32_t y0, int32_t y1);
  void (*smooth_rows)(const SmoothArgs& args, int32_t y0, int32_t y1, int32_t* scratch);
  void (*upsample_cell_rows)(const UpsampleBuild& args, int32_t r0, int32_t r1);
  void (*upsample_rows)(const UpsampleArgs& args, int32_t y0, int32_t y1, int64_t* scratch);
  void (*upsample_window_rows)(const UpsampleBuild& args, int32_t r0, int32_t r1, int32_t* scratch);
  void (*view_moves_rows)(const ViewMovesArgs& args, int32_t y0, int32_t y1);
  void (*warp_rows)(const WarpViewsArgs& args, int32_t y0, int32_t y1, int32_t* scratch);
  void (*widen_rows)(const WidenArgs& args, int32_t y0, int32_t y1, int32_t* scratch);
};

// isa: a supported se_isa; SE_ISA_AUTO gives the best.
const OpTable& op_table(int32_t isa);

const OpTable* table_base();
const OpTable* table_avx2();
const OpTable* table_avx512();
const OpTable* table_neon();

}  // namespace se
