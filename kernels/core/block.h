// SPDX-License-Identifier: Apache-2.0
// Block programs: the bodies of the CUDA kernels, written so that the host can run them too.
//
// A program is a struct with
//   Args                                   what it works on
//   kPhases, kThreads                      barriers lie between phases; threads of a block
//   grid(args)                             blocks, and bytes of shared memory
//   phase(k, args, block)                  what one thread does in phase k
// On a GPU a block's threads run each phase together (cuda/kernels.cu). On the host they run one after another, in an
// order that no program may rely on (cuda/blocks.cpp): SE_ISA_BLOCKS, which tests hold against the reference, so that a
// machine without a GPU finds a wrong kernel. Nothing but shared and caller-owned memory outlives a phase.
#pragma once
#include "core/types.h"

namespace se {

struct Block {
  int32_t x, y;  // of the grid
  int32_t thread;
  void* shared;  // 16-byte aligned, of unknown content at first
};

struct Grid {
  int32_t x, y;
  int64_t shared_bytes;
};

struct alignas(16) Chunk16 {
  uint32_t word[4];
};

// Keeps the greater, whichever thread comes first.
SE_HD void block_max(int32_t* place, int32_t value) {
#if defined(__CUDA_ARCH__)
  atomicMax(place, value);
#else
  if (value > *place) *place = value;
#endif
}

template <typename Word>
SE_HD void block_copy_words(uint8_t* to, const uint8_t* from, int64_t bytes, int32_t thread, int32_t threads) {
  constexpr int64_t kSize = (int64_t)sizeof(Word);
  int64_t head = (kSize - (int64_t)((uintptr_t)to & (kSize - 1))) & (kSize - 1);
  if (head > bytes) head = bytes;
  const int64_t words = (bytes - head) / kSize, tail = head + kSize * words;
  for (int64_t i = thread; i < head; i += threads) to[i] = from[i];
  for (int64_t i = thread; i < words; i += threads) ((Word*)(to + head))[i] = ((const Word*)(from + head))[i];
  for (int64_t i = tail + thread; i < bytes; i += threads) to[i] = from[i];
}

// Copies bytes with as wide accesses as both addresses allow; `threads` threads share the work.
SE_HD void block_copy(uint8_t* to, const uint8_t* from, int64_t bytes, int32_t thread, int32_t threads) {
  const uintptr_t differ = (uintptr_t)to ^ (uintptr_t)from;
  if ((differ & 15) == 0)
    block_copy_words<Chunk16>(to, from, bytes, thread, threads);
  else if ((differ & 3) == 0)
    block_copy_words<uint32_t>(to, from, bytes, thread, threads);
  else
    block_copy_words<uint8_t>(to, from, bytes, thread, threads);
}

// Whether a row's pixels lie side by side, forwards or backwards.
template <typename T>
SE_HD bool row_is_packed(const View<T>& v) {
  const int64_t step = v.channels * (int64_t)sizeof(T);
  return v.stride_c == (int64_t)sizeof(T) && (v.stride_x == step || v.stride_x == -step);
}

// The lowest address of a packed row.
template <typename T>
SE_HD T* row_begin(const View<T>& v, int32_t y) {
  return v.stride_x < 0 ? v.at(y, v.width - 1) : v.row(y);
}

// Columns [x0, x0 + width) of a view, cut at its end.
template <typename T>
SE_HD View<T> columns_of(View<T> v, int32_t x0, int32_t width) {
  v.data = v.at(0, x0);
  v.width = min_i32(width, v.width - x0);
  return v;
}

// Writes a row whose pixels stand in shared memory, one 32-bit word each with channel c in byte c: whole words where
// they lie side by side, single bytes elsewhere.
SE_HD void block_store_row(const View<uint8_t>& out, int32_t y, const int32_t* pixels, int32_t thread,
                           int32_t threads) {
  const int32_t width = out.width, channels = out.channels;
  if (!row_is_packed(out)) {
    for (int32_t x = thread; x < width; x += threads)
      for (int32_t c = 0; c < channels; ++c) *out.at(y, x, c) = (uint8_t)(pixels[x] >> (8 * c));
    return;
  }
  uint8_t* to = row_begin(out, y);
  const bool backwards = out.stride_x < 0;
  const int32_t bytes = width * channels;
  const int32_t head = min_i32(bytes, (int32_t)((4 - ((uintptr_t)to & 3)) & 3)), words = (bytes - head) / 4;
  const int32_t steps = words + (head + 3) / 4 + (bytes - head - 4 * words + 3) / 4;
  for (int32_t i = thread; i < steps; i += threads) {
    // Word i, or the bytes before the first word or after the last.
    const bool whole = i < words;
    const bool before = !whole && head > 0 && i == words;
    const int32_t first = whole ? head + 4 * i : (before ? 0 : head + 4 * words);
    const int32_t last = whole ? first + 4 : (before ? head : bytes);
    uint32_t word = 0;
    for (int32_t k = first; k < last; ++k) {
      const int32_t x = channels == 3 ? k / 3 : (channels == 4 ? k >> 2 : k / channels), c = k - x * channels;
      const uint32_t byte = ((uint32_t)pixels[backwards ? width - 1 - x : x] >> (8 * c)) & 255u;
      if (whole)
        word |= byte << (8 * (k - first));
      else
        to[k] = (uint8_t)byte;
    }
    if (whole) *(uint32_t*)(to + first) = word;
  }
}

// The program of an op whose pixels are words, channel c in byte c: word(args, y, x). A block is a piece of a row of
// Args::out, whose pixels are gathered in shared memory and written as words.
template <typename A, uint32_t (*word)(const A&, int32_t y, int32_t x)>
struct WordBlocks {
  using Args = A;
  static constexpr int32_t kPhases = 2, kThreads = 256, kPiece = 1024;

  static Grid grid(const Args& p) { return {(p.out.width + kPiece - 1) / kPiece, p.out.height, 4 * kPiece}; }

  SE_HD static void phase(int32_t k, const Args& p, const Block& b) {
    int32_t* pixels = (int32_t*)b.shared;
    const int32_t x0 = b.x * kPiece, x1 = min_i32(x0 + kPiece, p.out.width);
    if (k == 1) return block_store_row(columns_of(p.out, x0, kPiece), b.y, pixels, b.thread, kThreads);
    for (int32_t x = x0 + b.thread; x < x1; x += kThreads) pixels[x - x0] = (int32_t)word(p, b.y, x);
  }
};

}  // namespace se
