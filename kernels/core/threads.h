// SPDX-License-Identifier: Apache-2.0
// A small pool: rows are handed out in chunks, the caller works too, nothing is allocated per call.
#pragma once
#include <cstdint>

namespace se {

using RowsFn = void (*)(const void* args, int32_t y0, int32_t y1);

// Runs fn(args, y0, y1) over [0, rows) on up to `threads` threads (0 = one per core) in chunks of `grain` rows;
// returns when all have run. Which thread runs which rows is not defined; ops must not care. Safe to call from
// several threads at once and after fork().
void parallel_rows(int32_t threads, int32_t rows, int32_t grain, RowsFn fn, const void* args);

// This thread's scratch memory, at least `bytes` long and 64-byte aligned, kept from call to call; null when there is
// none to be had. Its content is anything. Bounded by the widest picture, so a frame path allocates once. The slots are
// apart: rows work in the first while a call's tables stand in the second.
constexpr int32_t kRowSlot = 0, kTableSlot = 1;
void* thread_scratch(int64_t bytes, int32_t slot = kRowSlot);

}  // namespace se
