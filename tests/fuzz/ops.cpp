// SPDX-License-Identifier: Apache-2.0
// Every op through the C interface on inputs made from bytes: each implementation must give the same status and the
// same bytes, and touch nothing outside its arrays (run it under AddressSanitizer).
//
// Built with clang's -fsanitize=fuzzer (SE_LIBFUZZER) it is a libFuzzer target; SE_FUZZ_OP=warp keeps it to one op.
// Built plainly it is a program that runs N made-up inputs (default 2000) and prints a digest of all outputs: equal on
// every machine, which is how the aarch64 build is held against this one. See .ci/fuzz and .ci/aarch64.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "secondeye/secondeye.h"

namespace {

uint64_t digest = 1469598103934665603ull;

struct Input {
  const uint8_t* data;
  size_t size;
  uint64_t state = 0x9e3779b97f4a7c15ull;

  uint32_t byte() {
    if (size == 0) return static_cast<uint32_t>(next() & 255);
    --size;
    state = (state ^ *data) * 0xbf58476d1ce4e5b9ull;
    return *data++;
  }
  int32_t range(int32_t low, int32_t high) {
    const uint32_t high_byte = byte();
    const uint32_t v = high_byte << 8 | byte();
    return low + static_cast<int32_t>(v % static_cast<uint32_t>(high - low + 1));
  }
  uint64_t next() {  // splitmix64
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
};

int32_t size_of(int32_t dtype) { return dtype == SE_UINT8 ? 1 : (dtype == SE_UINT16 || dtype == SE_FLOAT16 ? 2 : 4); }

// An array in memory of exactly its own, so that a step outside is seen.
struct Owned {
  std::unique_ptr<uint8_t[]> memory;
  size_t bytes = 0;
  se_array view{};
};

Owned make(Input& in, int32_t height, int32_t width, int32_t channels, int32_t dtype) {
  Owned a;
  const int64_t item = size_of(dtype), kind = in.range(0, 3), h = height, w = width, c = channels;
  const int64_t step = kind == 1 ? 2 * c : (kind == 3 ? 1 : c);  // 1: every other pixel, 3: planar
  const int64_t row = kind == 3 ? w : ((w - 1) * step + c + (kind == 1 ? 3 : 0));
  const int64_t plane = kind == 3 ? h * w : 1;
  const int64_t elements = kind == 3 ? c * h * w : (h - 1) * row + (w - 1) * step + c;
  a.bytes = static_cast<size_t>(elements * item);
  a.memory.reset(new uint8_t[a.bytes]);
  a.view = se_array{a.memory.get(), height, width, channels, dtype, row * item, step * item, plane * item};
  if (kind == 2) {  // upside down and backwards
    a.view.data = a.memory.get() + ((h - 1) * row + (w - 1) * step) * item;
    a.view.stride_y = -a.view.stride_y;
    a.view.stride_x = -a.view.stride_x;
  }
  return a;
}

void fill_bytes(Input& in, Owned& a, int32_t zeros_in_16) {
  for (size_t i = 0; i < a.bytes; ++i) {
    const uint64_t v = in.next();
    a.memory[i] = static_cast<int32_t>(v >> 60) < zeros_in_16 ? 0 : static_cast<uint8_t>(v);
  }
}

void fill_floats(Input& in, Owned& a) {
  const int32_t kind = in.range(0, 4);
  const float scale = static_cast<float>(in.range(1, 64)) / 4.0f;
  float value = 0.0f;
  for (size_t i = 0; i + 4 <= a.bytes; i += 4) {
    const uint64_t v = in.next();
    const float noise = (static_cast<float>(v & 0xffff) / 32768.0f - 1.0f) * scale;
    if (kind == 0) value += noise / 64.0f;
    if (kind == 1 && (v >> 16) % 12 == 0) value = noise;
    if (kind == 2) value = noise;
    if (kind == 3) value = noise * 20000.0f;
    if (kind == 4) {
      const uint32_t bits = static_cast<uint32_t>(v >> 16);
      std::memcpy(&value, &bits, 4);
    }
    if (kind != 4 && (v >> 32) % 50 == 0) {
      const float odd[4] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), -0.0f};
      const float strange = odd[(v >> 40) & 3];
      std::memcpy(a.memory.get() + i, &strange, 4);
      continue;
    }
    std::memcpy(a.memory.get() + i, &value, 4);
  }
}

// A map such as warp makes (positions inside the row, or -1), or anything.
void fill_map(Input& in, Owned& a) {
  const uint32_t most = static_cast<uint32_t>(256 * (a.view.width - 1) + 1);
  const bool wild = in.range(0, 4) == 0;
  for (size_t i = 0; i + 4 <= a.bytes; i += 4) {
    const uint64_t v = in.next();
    const int32_t m = (v >> 60) < 3 ? -1 : static_cast<int32_t>(static_cast<uint32_t>(v) % (wild ? ~0u : most));
    std::memcpy(a.memory.get() + i, &m, 4);
  }
}

// Now and then one field is nonsense: an error code must come back, and nothing be touched.
// With `size_too`, also a size that only a partner gives away.
void spoil(Input& in, se_array& a, bool size_too = true) {
  if (in.range(0, 40) != 0) return;
  switch (in.range(0, size_too ? 7 : 6)) {
    case 0: a.data = nullptr; break;
    case 1: a.height = in.range(-2, 0); break;
    case 2: a.width = 20000; break;
    case 3: a.channels = in.range(5, 9); break;
    case 4: a.dtype = in.range(5, 9); break;
    case 5: a.dtype = SE_UINT16; break;
    case 6: a.channels = 0; break;
    default: a.width += 1; break;
  }
}

using Arrays = std::vector<Owned*>;

// Runs a call with every implementation and compares what it left in the outputs.
template <typename Call>
void everywhere(Input& in, const char* op, const Arrays& outputs, Call call) {
  std::vector<std::vector<uint8_t>> first;
  int32_t status = 0;
  const int32_t threads = in.range(0, 4);
  bool begun = false;
  for (int32_t isa = SE_ISA_BASE; isa <= SE_ISA_BLOCKS; ++isa) {
    if (se_cpu_isa_supported(isa) == 0) continue;
    for (Owned* a : outputs) std::memset(a->memory.get(), 0xa5, a->bytes);
    se_exec exec{};
    exec.isa = isa;
    exec.threads = threads;
    const int32_t got = call(&exec);
    if (!begun) {
      begun = true;
      status = got;
      for (Owned* a : outputs) first.emplace_back(a->memory.get(), a->memory.get() + a->bytes);
      digest = (digest ^ static_cast<uint64_t>(status)) * 1099511628211ull;
      for (const auto& bytes : first)
        for (const uint8_t b : bytes) digest = (digest ^ b) * 1099511628211ull;
      continue;
    }
    bool same = got == status;
    for (size_t k = 0; k < outputs.size(); ++k)
      same = same && std::memcmp(outputs[k]->memory.get(), first[k].data(), first[k].size()) == 0;
    if (!same) {
      std::fprintf(stderr, "%s: instruction set %d differs from %d (status %d, %d)\n", op, isa, SE_ISA_BASE, got, status);
      std::abort();
    }
  }
}

struct Size {
  int32_t height, width;
};

Size size_from(Input& in) {
  const int32_t kind = in.range(0, 9);
  if (kind == 0) return {1, 1};
  if (kind == 1) return {in.range(1, 2), in.range(1000, 5000)};
  if (kind == 2) return {in.range(40, 90), in.range(1, 8)};
  return {in.range(1, 12), in.range(1, 300)};
}

void warp(Input& in) {
  const Size s = size_from(in);
  const int32_t channels = in.range(1, 4);
  Owned source = make(in, s.height, s.width, channels, SE_UINT8), d = make(in, s.height, s.width, 1, SE_FLOAT32);
  Owned out = make(in, s.height, s.width, channels, SE_UINT8), holes = make(in, s.height, s.width, 1, SE_UINT8);
  Owned map = make(in, s.height, s.width, 1, SE_INT32);
  fill_bytes(in, source, 0);
  fill_floats(in, d);
  const se_warp_params params{in.range(0, 1), in.range(0, 1), in.range(256, 2048), in.range(0, 1)};
  const bool with_map = in.range(0, 3) != 0;
  spoil(in, source.view);
  spoil(in, d.view);
  spoil(in, out.view);
  everywhere(in, "warp", {&out, &holes, &map}, [&](const se_exec* e) {
    return se_warp(e, &params, &source.view, &d.view, &out.view, &holes.view, with_map ? &map.view : nullptr);
  });
}

void fill(Input& in) {
  const Size s = size_from(in);
  const int32_t channels = in.range(1, 4), eye = in.range(0, 1);
  Owned view = make(in, s.height, s.width, channels, SE_UINT8), holes = make(in, s.height, s.width, 1, SE_UINT8);
  Owned map = make(in, s.height, s.width, 1, SE_INT32), out = make(in, s.height, s.width, channels, SE_UINT8);
  fill_bytes(in, view, 0);
  fill_bytes(in, holes, in.range(0, 16));
  fill_map(in, map);
  spoil(in, holes.view);
  spoil(in, map.view);
  everywhere(in, "fill", {&out},
             [&](const se_exec* e) { return se_fill(e, eye, &view.view, &holes.view, &map.view, &out.view); });
}

void mask(Input& in) {
  const Size s = size_from(in);
  Owned holes = make(in, s.height, s.width, 1, SE_UINT8), map = make(in, s.height, s.width, 1, SE_INT32);
  Owned out = make(in, s.height, s.width, 1, SE_UINT8);
  const int32_t side = in.range(1, 20), area = in.range(0, 1);
  Owned cells = make(in, (s.height + side - 1) / side, (s.width + side - 1) / side, 1, SE_UINT8);
  fill_bytes(in, holes, in.range(0, 16));
  fill_map(in, map);
  const se_mask_params params{in.range(0, 1), in.range(0, 4),  in.range(0, 4),
                              in.range(0, 9), in.range(0, 70), in.range(0, 9)};
  spoil(in, map.view);
  everywhere(in, "inpaint_mask", {&out},
             [&](const se_exec* e) { return se_inpaint_mask(e, &params, &holes.view, &map.view, &out.view); });
  everywhere(in, "mask_cells", {&cells},
             [&](const se_exec* e) { return se_mask_cells(e, side, area, &holes.view, &cells.view); });
}

void blend(Input& in) {
  const Size s = size_from(in);
  const int32_t channels = in.range(1, 4), radius = in.range(-1, 17);
  Owned base = make(in, s.height, s.width, channels, SE_UINT8), over = make(in, s.height, s.width, channels, SE_UINT8);
  Owned mask = make(in, s.height, s.width, 1, SE_UINT8), out = make(in, s.height, s.width, channels, SE_UINT8);
  Owned soft = make(in, s.height, s.width, 1, SE_UINT8);
  fill_bytes(in, base, 0);
  fill_bytes(in, over, 0);
  fill_bytes(in, mask, in.range(0, 16));
  spoil(in, over.view);
  spoil(in, mask.view);
  everywhere(in, "feather", {&soft}, [&](const se_exec* e) { return se_feather(e, radius, &mask.view, &soft.view); });
  everywhere(in, "blend", {&out},
             [&](const se_exec* e) { return se_blend(e, &base.view, &over.view, &mask.view, &out.view); });
}

// Weights of an axis that the op takes, or (now and then) ones that it must refuse.
struct Axis {
  std::vector<int32_t> first, count, weights;
  se_resample_axis view{};
};

Axis axis_from(Input& in, int32_t inputs, int32_t outputs) {
  Axis a;
  const int32_t stride = in.range(1, inputs < 9 ? inputs : 9);
  for (int32_t i = 0; i < outputs; ++i) {
    const int32_t n = 1 + static_cast<int32_t>(in.next() % static_cast<uint64_t>(stride));
    a.count.push_back(n);
    a.first.push_back(static_cast<int32_t>(in.next() % static_cast<uint64_t>(inputs - n + 1)));
    int32_t left = 16384;
    for (int32_t k = 0; k < stride; ++k) {
      const int32_t w = k >= n ? 0 : (k == n - 1 ? left : static_cast<int32_t>(in.next() % static_cast<uint64_t>(left + 1)));
      a.weights.push_back(w);
      left -= w;
    }
  }
  if (in.range(0, 30) == 0) a.first[static_cast<size_t>(in.range(0, outputs - 1))] += in.range(-3, 3);
  if (in.range(0, 30) == 0) a.weights[0] += in.range(-3, 3);
  a.view = se_resample_axis{a.first.data(), a.count.data(), a.weights.data(), outputs, stride};
  return a;
}

// Every output is one input, or the mean of two: what the kernel does without tables.
Axis plain_axis(Input& in, int32_t outputs, int32_t taps) {
  Axis a;
  const int32_t stride = taps + in.range(0, 1);
  for (int32_t i = 0; i < outputs; ++i) {
    a.first.push_back(taps * i);
    a.count.push_back(taps);
    for (int32_t k = 0; k < stride; ++k) a.weights.push_back(k < taps ? 16384 / taps : 0);
  }
  a.view = se_resample_axis{a.first.data(), a.count.data(), a.weights.data(), outputs, stride};
  return a;
}

void resample(Input& in) {
  const Size s = size_from(in);
  const int32_t channels = in.range(1, 4), kind = in.range(0, 3);
  const bool halves_x = kind == 1 && s.width > 1, halves_y = kind == 2 && s.height > 1, plain = halves_x || halves_y;
  const int32_t h = halves_y ? s.height / 2 : (plain ? s.height : in.range(1, 20));
  const int32_t w = halves_x ? s.width / 2 : (plain ? s.width : in.range(1, 150));
  Owned source = make(in, s.height, s.width, channels, SE_UINT8), out = make(in, h, w, channels, SE_UINT8);
  const bool half = in.range(0, 2) == 0;
  Owned tensor = make(in, h, w, 3, half ? SE_FLOAT16 : SE_FLOAT32);
  fill_bytes(in, source, 0);
  const Axis x = plain ? plain_axis(in, w, halves_x ? 2 : 1) : axis_from(in, s.width, w);
  const Axis y = plain ? plain_axis(in, h, halves_y ? 2 : 1) : axis_from(in, s.height, h);
  const float gain[3] = {0.00006f, 0.00007f, 0.00008f}, bias[3] = {-2.1f, -2.0f, -1.8f};
  spoil(in, source.view, false);
  everywhere(in, "resample", {&out},
             [&](const se_exec* e) { return se_resample(e, &source.view, &x.view, &y.view, &out.view); });
  everywhere(in, "resample_tensor", {&tensor}, [&](const se_exec* e) {
    return se_resample_tensor(e, &source.view, &x.view, &y.view, gain, bias, &tensor.view);
  });
}

void upsample(Input& in) {
  const Size s = size_from(in);
  // One at a time: the order in which a call's arguments are worked out is the compiler's.
  const int32_t h = in.range(1, 12), w = in.range(1, 40), channels = in.range(3, 4);
  Owned map = make(in, h, w, 1, SE_FLOAT32), out = make(in, s.height, s.width, 1, SE_FLOAT32);
  Owned picture = make(in, s.height, s.width, channels, SE_UINT8);
  fill_floats(in, map);
  fill_bytes(in, picture, 0);
  const int32_t threshold = in.range(-1, 3000);
  Owned labels = make(in, s.height, s.width, 1, SE_UINT16);
  for (size_t i = 0; i + 2 <= labels.bytes; i += 2) {
    const uint16_t label = static_cast<uint16_t>(in.next() % 4 * 9000);
    std::memcpy(labels.memory.get() + i, &label, 2);
  }
  const bool labelled = in.range(0, 1) != 0;
  spoil(in, picture.view);
  spoil(in, labels.view);
  everywhere(in, "upsample", {&out}, [&](const se_exec* e) {
    return se_upsample(e, threshold, &map.view, &picture.view, labelled ? &labels.view : nullptr, &out.view);
  });
}

void restore(Input& in) {
  const Size s = size_from(in);
  const int32_t half = in.range(0, 1), channels = in.range(3, 4);
  Owned tensor = make(in, s.height, s.width, 3, half != 0 ? SE_FLOAT16 : SE_FLOAT32);
  Owned out = make(in, s.height, s.width, channels, SE_UINT8);
  if (half != 0)
    fill_bytes(in, tensor, 2);
  else
    fill_floats(in, tensor);
  const float gain[3] = {127.5f, 58.4f, -60.0f}, bias[3] = {127.5f, 120.0f, 0.5f};
  spoil(in, tensor.view);
  everywhere(in, "restore", {&out},
             [&](const se_exec* e) { return se_restore(e, gain, bias, &tensor.view, &out.view); });
}

void widen(Input& in) {
  const Size s = size_from(in);
  Owned d = make(in, s.height, s.width, 1, SE_FLOAT32), out = make(in, s.height, s.width, 1, SE_FLOAT32);
  fill_floats(in, d);
  const int32_t radius = in.range(-1, 17), threshold = in.range(-1, 2000);
  spoil(in, out.view);
  everywhere(in, "widen", {&out},
             [&](const se_exec* e) { return se_widen(e, radius, threshold, &d.view, &out.view); });
}

void smooth(Input& in) {
  const Size s = size_from(in);
  Owned d = make(in, s.height, s.width, 1, SE_FLOAT32), out = make(in, s.height, s.width, 1, SE_FLOAT32);
  fill_floats(in, d);
  const int32_t threshold = in.range(-1, 2000);
  spoil(in, out.view);
  everywhere(in, "smooth", {&out}, [&](const se_exec* e) { return se_smooth(e, threshold, &d.view, &out.view); });
}

void motion(Input& in) {
  const Size s = size_from(in);
  const int32_t rows = (s.height + 7) / 8, columns = (s.width + 7) / 8, radius = in.range(-1, 6);
  Owned now = make(in, s.height, s.width, 1, SE_UINT8), before = make(in, s.height, s.width, 1, SE_UINT8);
  Owned start = make(in, rows, columns, 2, SE_INT32), out = make(in, rows, columns, 3, SE_INT32);
  fill_bytes(in, now, 4);
  fill_bytes(in, before, 4);
  fill_map(in, start);
  const bool started = in.range(0, 1) != 0;
  spoil(in, start.view);
  everywhere(in, "motion", {&out}, [&](const se_exec* e) {
    return se_motion(e, radius, &now.view, &before.view, started ? &start.view : nullptr, &out.view);
  });
}

void pack(Input& in) {
  const Size s = size_from(in);
  const int32_t channels = in.range(1, 4), layout = in.range(-1, 7);
  const int32_t tall = layout == SE_PACK_TB ? 2 : 1, wide = layout == SE_PACK_SBS ? 2 : 1;
  Owned left = make(in, s.height, s.width, channels, SE_UINT8), right = make(in, s.height, s.width, channels, SE_UINT8);
  Owned out = make(in, tall * s.height, wide * s.width, channels, SE_UINT8);
  fill_bytes(in, left, 0);
  fill_bytes(in, right, 0);
  spoil(in, right.view);
  everywhere(in, "pack", {&out},
             [&](const se_exec* e) { return se_pack(e, layout, &left.view, &right.view, &out.view); });
  Owned both = make(in, s.height, s.width, channels, SE_UINT8);
  int32_t matrix[18];
  for (int32_t& m : matrix) m = in.range(-5000, 5000);
  everywhere(in, "anaglyph", {&both},
             [&](const se_exec* e) { return se_anaglyph(e, matrix, &left.view, &right.view, &both.view); });
}

void nv12(Input& in) {
  const Size s = size_from(in);
  const int32_t channels = in.range(3, 4), standard = in.range(-1, 3), full = in.range(0, 1);
  Owned luma = make(in, s.height, s.width, 1, SE_UINT8), out = make(in, s.height, s.width, channels, SE_UINT8);
  Owned chroma = make(in, (s.height + 1) / 2, (s.width + 1) / 2, 2, SE_UINT8);
  fill_bytes(in, luma, 0);
  fill_bytes(in, chroma, 0);
  spoil(in, chroma.view);
  everywhere(in, "nv12", {&out},
             [&](const se_exec* e) { return se_nv12(e, standard, full, &luma.view, &chroma.view, &out.view); });
}

void level(Input& in) {
  const Size s = size_from(in);
  Owned d = make(in, s.height, s.width, 1, SE_FLOAT32), out = make(in, s.height, s.width, 1, SE_FLOAT32);
  fill_floats(in, d);
  // NaN has many forms, and which one comes out is the processor's affair.
  for (size_t k = 0; k + 4 <= d.bytes; k += 4) {
    float value;
    std::memcpy(&value, d.memory.get() + k, 4);
    if (!(value - value == 0.0f)) std::memset(d.memory.get() + k, 0, 4);
  }
  const float scale = static_cast<float>(in.range(-3000, 3000)) / 256, offset = static_cast<float>(in.range(-9000, 9000)) / 64;
  spoil(in, out.view);
  everywhere(in, "level", {&out}, [&](const se_exec* e) { return se_level(e, scale, offset, &d.view, &out.view); });
}

struct Target {
  const char* name;
  void (*run)(Input&);
};
const Target kTargets[] = {{"warp", warp},         {"fill", fill},   {"mask", mask}, {"blend", blend}, {"resample", resample},
                           {"upsample", upsample}, {"smooth", smooth}, {"widen", widen}, {"pack", pack},
                           {"motion", motion},     {"restore", restore}, {"nv12", nv12}, {"level", level}};
constexpr int32_t kCount = sizeof kTargets / sizeof kTargets[0];

void one(const uint8_t* data, size_t size) {
  static const char* const only = std::getenv("SE_FUZZ_OP");
  Input in{data, size};
  const int32_t chosen = in.range(0, kCount - 1);
  for (int32_t k = 0; k < kCount; ++k)
    if (only != nullptr ? std::strcmp(only, kTargets[k].name) == 0 : k == chosen) kTargets[k].run(in);
}

}  // namespace

#if defined(SE_LIBFUZZER)
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  one(data, size);
  return 0;
}
#else
int main(int argc, char** argv) {
  const int32_t inputs = argc > 1 ? std::atoi(argv[1]) : 2000;
  for (int32_t n = 0; n < inputs; ++n) {
    Input maker{nullptr, 0, 0x5851f42d4c957f2dull * static_cast<uint64_t>(n + 1)};
    uint8_t bytes[96];
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(maker.next() >> 17);
    one(bytes, sizeof bytes);
  }
  std::printf("%d inputs, digest %016llx\n", inputs, static_cast<unsigned long long>(digest));
  return 0;
}
#endif
