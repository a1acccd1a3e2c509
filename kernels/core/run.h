// SPDX-License-Identifier: Apache-2.0
// What every entry of the C interface does after its checks: run an op's rows on the pool.
#pragma once
#include <atomic>

#include "core/check.h"
#include "core/cpu.h"
#include "core/threads.h"

namespace se {

// Rows per chunk: about 64 KiB of output, so that two threads share a small picture and none waits long at the end.
inline int32_t grain_of(const se_array& out) {
  const int64_t row_bytes = static_cast<int64_t>(out.width) * out.channels * dtype_size(out.dtype);
  return static_cast<int32_t>(1 + 65536 / (row_bytes + 1));
}

template <typename Args>
struct Rows {
  const Args* args;
  void (*fn)(const Args&, int32_t, int32_t);
  static void call(const void* self, int32_t y0, int32_t y1) {
    const Rows* rows = static_cast<const Rows*>(self);
    rows->fn(*rows->args, y0, y1);
  }
};

template <typename Args>
int32_t run_rows(const se_exec& exec, int32_t rows, int32_t grain, const Args& args,
                 void (*fn)(const Args&, int32_t, int32_t)) {
  const Rows<Args> bound{&args, fn};
  parallel_rows(exec.threads, rows, grain, Rows<Args>::call, &bound);
  return SE_OK;
}

// The same for ops that need scratch memory on each thread.
template <typename Args, typename Scratch>
struct ScratchRows {
  const Args* args;
  void (*fn)(const Args&, int32_t, int32_t, Scratch*);
  int64_t bytes;
  mutable std::atomic<bool> starved{false};
  static void call(const void* self, int32_t y0, int32_t y1) {
    const ScratchRows* rows = static_cast<const ScratchRows*>(self);
    void* scratch = thread_scratch(rows->bytes);
    if (scratch == nullptr)
      rows->starved.store(true, std::memory_order_relaxed);
    else
      rows->fn(*rows->args, y0, y1, static_cast<Scratch*>(scratch));
  }
};

template <typename Args, typename Scratch>
int32_t run_rows(const se_exec& exec, int32_t rows, int32_t grain, const Args& args,
                 void (*fn)(const Args&, int32_t, int32_t, Scratch*), int64_t scratch_bytes) {
  ScratchRows<Args, Scratch> bound{&args, fn, scratch_bytes};
  parallel_rows(exec.threads, rows, grain, ScratchRows<Args, Scratch>::call, &bound);
  return bound.starved.load() ? SE_ERROR_OUT_OF_MEMORY : SE_OK;
}

}  // namespace se
