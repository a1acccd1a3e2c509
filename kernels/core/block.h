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

constexpr int64_t kPlainShared = 48 * 1024;  // bytes of shared memory that every device gives without being asked

struct Grid {
  int32_t x, y;
  int64_t shared_bytes;
};

// Sixteen bytes of anything, read and written at once.
struct __attribute__((aligned(16), may_alias)) Chunk16 {
  uint32_t word[4];
};

// Four bytes of anything.
typedef uint32_t __attribute__((may_alias)) Word32;

// The device's own instructions, and what they mean.
SE_HD float block_quotient(float n, float d) {  // within two units in the last place
#if defined(__CUDA_ARCH__)
  return __fdividef(n, d);
#else
  return n / d;
#endif
}
SE_HD uint32_t block_shift(uint32_t low, uint32_t high, int32_t bits) {  // the low word of both, moved down; bits < 32
  return (uint32_t)(((uint64_t)high << 32 | low) >> bits);
}
SE_HD int32_t block_zeros_below(uint32_t v) {  // v is not 0
#if defined(__CUDA_ARCH__)
  return __ffs((int32_t)v) - 1;
#else
  return __builtin_ctz(v);
#endif
}
SE_HD int32_t block_zeros_above(uint32_t v) {  // v is not 0
#if defined(__CUDA_ARCH__)
  return __clz((int32_t)v);
#else
  return __builtin_clz(v);
#endif
}
SE_HD int32_t block_apart(uint32_t a, uint32_t b) {  // sum of the absolute differences of four bytes
#if defined(__CUDA_ARCH__)
  return (int32_t)__vsadu4(a, b);
#else
  int32_t sum = 0;
  for (int32_t k = 0; k < 32; k += 8) {
    const int32_t d = (int32_t)(a >> k & 255u) - (int32_t)(b >> k & 255u);
    sum += d < 0 ? -d : d;
  }
  return sum;
#endif
}
// Four of the eight bytes of a (0 to 3) and b (4 to 7), the numbers of which are the selector's nibbles.
SE_HD uint32_t block_pick(uint32_t a, uint32_t b, uint32_t selector) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(a, b, selector);
#else
  const uint64_t both = (uint64_t)b << 32 | a;
  uint32_t picked = 0;
  for (int32_t k = 0; k < 4; ++k) picked |= (uint32_t)(both >> (8 * (selector >> (4 * k) & 7u)) & 255u) << (8 * k);
  return picked;
#endif
}
// Of four bytes each: (a + b + 1) >> 1.
SE_HD uint32_t block_means(uint32_t a, uint32_t b) { return (a | b) - ((a ^ b) >> 1 & 0x7f7f7f7fu); }

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
  for (int64_t k = thread; k < head; k += threads) to[k] = from[k];
  constexpr int32_t kBatch = 4;  // loads on their way at once
  int64_t i = thread;
  for (; i + (kBatch - 1) * threads < words; i += kBatch * threads) {
    Word batch[kBatch];
    for (int32_t k = 0; k < kBatch; ++k) batch[k] = ((const Word*)(from + head))[i + k * threads];
    for (int32_t k = 0; k < kBatch; ++k) ((Word*)(to + head))[i + k * threads] = batch[k];
  }
  for (; i < words; i += threads) ((Word*)(to + head))[i] = ((const Word*)(from + head))[i];
  for (int64_t k = tail + thread; k < bytes; k += threads) to[k] = from[k];
}

// Copies bytes with as wide accesses as both addresses allow; `threads` threads share the work.
SE_HD void block_copy(uint8_t* to, const uint8_t* from, int64_t bytes, int32_t thread, int32_t threads) {
  const uintptr_t differ = (uintptr_t)to ^ (uintptr_t)from;
  if ((differ & 15) == 0)
    block_copy_words<Chunk16>(to, from, bytes, thread, threads);
  else if ((differ & 3) == 0)
    block_copy_words<Word32>(to, from, bytes, thread, threads);
  else
    block_copy_words<uint8_t>(to, from, bytes, thread, threads);
}

// Of a row's pixels one bit each, 32 to a word, set in runs; `bits` has an empty word before its first and after its last.
SE_HD bool block_bit(const uint32_t* bits, int32_t x) { return (bits[x >> 5] >> (x & 31) & 1u) != 0; }
// Where the run that x is in ends: the first pixel after it.
SE_HD int32_t block_run_end(const uint32_t* bits, int32_t x) {
  int32_t w = x >> 5;
  uint32_t open = ~bits[w] & ~0u << (x & 31);
  while (open == 0) open = ~bits[++w];
  return 32 * w + block_zeros_below(open);
}
// Where it begins.
SE_HD int32_t block_run_begin(const uint32_t* bits, int32_t x) {
  int32_t w = x >> 5;
  uint32_t open = ~bits[w] & ~0u >> (31 - (x & 31));
  while (open == 0) open = ~bits[--w];
  return 32 * w + 32 - block_zeros_above(open);
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

// Whether rows of forward pixels begin on addresses of whole units of bytes.
template <typename T>
SE_HD bool rows_are_aligned(const View<T>& v, int32_t unit) {
  return row_is_packed(v) && v.stride_x > 0 && (((uintptr_t)v.data | (uintptr_t)v.stride_y) & (uintptr_t)(unit - 1)) == 0;
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
    if (whole) *(Word32*)(to + first) = word;
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
