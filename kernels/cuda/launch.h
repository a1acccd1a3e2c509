// SPDX-License-Identifier: Apache-2.0
// Where block programs run: as CUDA kernels on the caller's stream (one launch, no allocation, no synchronisation), or
// one block after another on the host.
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
#include "ops/warp_blocks.op.h"
#include "ops/widen.op.h"

// Every program there is.
#define SE_PROGRAMS(X) \
  X(AnaglyphBlocks) \
  X(BlendBlocks) \
  X(CellsBlocks) \
  X(FeatherBlocks) \
  X(FillBlocks) \
  X(FollowBlocks) \
  X(GreyBlocks) \
  X(KeepBlocks) \
  X(LayBlocks) \
  X(LevelBlocks) \
  X(MaskBlocks) \
  X(MotionBlocks) \
  X(MovesBlocks) \
  X(Nv12Blocks) \
  X(PackBlocks) \
  X(RecallBlocks) \
  X(ResampleBlocks) \
  X(RestoreBlocks) \
  X(SmoothBlocks) \
  X(UpsampleBlocks) \
  X(UpsampleTileBlocks) \
  X(ViewMovesBlocks) \
  X(WarpBlocks) \
  X(WarpPackedBlocks) \
  X(WidenBlocks)

namespace se {

// Whether a call runs as a block program rather than as the CPU's row functions.
inline bool runs_blocks(const se_exec& exec) { return exec.device == SE_CUDA || exec.isa == SE_ISA_BLOCKS; }

#define SE_DECLARE(Program)                                                \
  int32_t launch_on_device(const base::Program::Args& args, void* stream); \
  int32_t run_on_host(const base::Program::Args& args);
SE_PROGRAMS(SE_DECLARE)
#undef SE_DECLARE

template <typename Args>
int32_t run_blocks(const se_exec& exec, const Args& args) {
  return exec.device == SE_CUDA ? launch_on_device(args, exec.stream) : run_on_host(args);
}

}  // namespace se
