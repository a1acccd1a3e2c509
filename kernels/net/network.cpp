// SPDX-License-Identifier: Apache-2.0
#include "net/network.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "core/run.h"
#include "core/system.h"

namespace se {
namespace {

int64_t rounded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Calls fn(args, i0, i1, scratch) for tasks [0, n), one at a time.
template <typename Args>
int32_t run_tasks(int32_t threads, int32_t n, const Args& args, void (*fn)(const Args&, int32_t, int32_t, float*), int64_t scratch) {
  se_exec exec{};
  exec.threads = threads;
  return run_rows(exec, n, 1, args, fn, std::max<int64_t>(scratch, 64));
}

// The layers that are too small to be worth an instruction set.
struct Start {
  const float* in;
  float* out;
  int64_t out_plane, pixels;
  const float *gain, *bias;
};
void start_tasks(const Start& a, int32_t i0, int32_t i1) {
  for (int32_t c = i0; c < i1; ++c)
    for (int64_t k = 0; k < a.pixels; ++k) a.out[c * a.out_plane + k] = a.in[c * a.pixels + k] * a.gain[c] + a.bias[c];
}

struct Sums {
  const float *in, *add;
  float* out;
  int64_t in_plane, out_plane, pixels;
};
void copy_tasks(const Sums& a, int32_t i0, int32_t i1) {
  const size_t bytes = sizeof(float) * static_cast<size_t>(a.pixels);
  for (int32_t c = i0; c < i1; ++c) std::memcpy(a.out + c * a.out_plane, a.in + c * a.in_plane, bytes);
}
void add_tasks(const Sums& a, int32_t i0, int32_t i1) {
  for (int32_t c = i0; c < i1; ++c)
    for (int64_t k = 0; k < a.pixels; ++k) a.out[c * a.out_plane + k] = a.in[c * a.in_plane + k] + a.add[c];
}
void mean_tasks(const Sums& a, int32_t i0, int32_t i1) {
  for (int32_t c = i0; c < i1; ++c) {
    double sum = 0;
    for (int64_t k = 0; k < a.pixels; ++k) sum += static_cast<double>(a.in[c * a.in_plane + k]);
    a.out[c] = static_cast<float>(sum / static_cast<double>(a.pixels));
  }
}

struct Linear {
  const float *in, *weights, *bias;
  float* out;
  int32_t inputs;
};
void linear_tasks(const Linear& a, int32_t i0, int32_t i1) {
  for (int32_t r = i0; r < i1; ++r) {
    double sum = static_cast<double>(a.bias[r]);
    const float* weights = a.weights + int64_t{r} * a.inputs;
    for (int32_t k = 0; k < a.inputs; ++k) sum += static_cast<double>(a.in[k]) * static_cast<double>(weights[k]);
    a.out[r] = static_cast<float>(sum);
  }
}

constexpr int32_t kChunk = 48;             // pixels of a pointwise task: a multiple of what any instruction set works on at once
constexpr int64_t kBandBytes = 160 << 10;  // of what a depthwise task keeps on the way: it stays in the second cache
constexpr int64_t kMostFloats = int64_t{1} << 28;  // of buffers; the built-in network of 2048 x 2048 takes half of that
constexpr size_t kMostIdle = 4;

}  // namespace

const NetTable* net_table(int32_t isa) {
  switch (isa) {
    case SE_ISA_BASE: return net_table_base();
#if defined(SE_HAVE_X86_TABLES)
    case SE_ISA_AVX2: return se_cpu_isa_supported(SE_ISA_AVX2) != 0 ? net_table_avx2() : nullptr;
    case SE_ISA_AVX512: {  // needs less of a processor than the other kernels' does
      const bool runs = se_cpu_isa_supported(SE_ISA_AVX2) != 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
      return runs ? net_table_avx512() : nullptr;
    }
#endif
#if defined(SE_HAVE_NEON_TABLE)
    case SE_ISA_NEON: return net_table_neon();
#endif
    case SE_ISA_AUTO:
    case SE_ISA_BLOCKS:
      for (const int32_t best : {SE_ISA_AVX512, SE_ISA_AVX2, SE_ISA_NEON})
        if (const NetTable* table = net_table(best)) return table;
      return net_table_base();
    default: return nullptr;
  }
}

std::unique_ptr<Network::Plan> Network::plan(int32_t height, int32_t width) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& idle : idle_) {
      if (idle->height != height || idle->width != width) continue;
      std::unique_ptr<Plan> found = std::move(idle);
      idle_.erase(idle_.begin() + (&idle - idle_.data()));
      return found;
    }
  }
  if (height < 1 || width < 1 || height > 4096 || width > 4096 || (fixed_height_ != 0 && height != fixed_height_) ||
      (fixed_width_ != 0 && width != fixed_width_))
    throw Unfit("it does not take a picture of " + std::to_string(width) + " x " + std::to_string(height) + ".");
  auto made = std::make_unique<Plan>();
  made->height = height;
  made->width = width;
  made->places.resize(tensors_.size());
  for (const Step& step : steps_) {
    const auto place = [&](int32_t id) -> Place& { return made->places[static_cast<size_t>(id)]; };
    Place& out = place(step.out);
    if (step.kind == Kind::kStart) {
      out.height = height;
      out.width = width;
    } else {
      const Place& in = place(step.in);
      const auto side = [&](int32_t n, int32_t pads) { return (n + pads - step.kernel) / step.stride + 1; };
      const bool vector = tensors_[static_cast<size_t>(step.out)].vector;
      out.height = vector ? 1 : step.kind == Kind::kEnlarge ? 2 * in.height : side(in.height, step.top + step.bottom);
      out.width = vector ? 1 : step.kind == Kind::kEnlarge ? 2 * in.width : side(in.width, step.left + step.right);
      if (in.height + step.top + step.bottom < step.kernel || in.width + step.left + step.right < step.kernel || out.height > 8192 ||
          out.width > 8192)
        throw Unfit("its layers do not take a picture of " + std::to_string(width) + " x " + std::to_string(height) + ".");
      if (step.add >= 0 && step.kind != Kind::kAddVector && (place(step.add).height != out.height || place(step.add).width != out.width))
        throw Unfit("the maps of a sum differ in size.");
    }
    for (int32_t whole = tensors_[static_cast<size_t>(step.out)].whole; whole >= 0; whole = tensors_[static_cast<size_t>(whole)].whole) {
      Place& of = place(whole);
      if (of.height != 0 && (of.height != out.height || of.width != out.width)) throw Unfit("the maps of a concatenation differ in size.");
      of.height = out.height;
      of.width = out.width;
    }
  }
  lay_out(made.get());
  return made;
}

// Gives every map a place in memory that nothing else holds while it is needed: first fit, the largest first.
void Network::lay_out(Plan* plan) const {
  const auto n = static_cast<int32_t>(tensors_.size());
  struct Need {
    int32_t id, first, last;
    int64_t floats;
  };
  std::vector<Need> needs;
  const auto root = [&](int32_t id) {
    while (tensors_[static_cast<size_t>(id)].whole >= 0) id = tensors_[static_cast<size_t>(id)].whole;
    return id;
  };
  for (int32_t id = 0; id < n; ++id) {
    Place& place = plan->places[static_cast<size_t>(id)];
    // The slack also keeps planes from lying a power of two apart, in the same sets of the cache.
    place.plane = rounded(int64_t{place.height} * place.width, kMostLanes) + kPlaneSlack;
    if (root(id) == id) needs.push_back({id, INT32_MAX, -1, tensors_[static_cast<size_t>(id)].channels * place.plane + kPlaneSlack});
  }
  for (int32_t s = 0; s < static_cast<int32_t>(steps_.size()); ++s)
    for (const int32_t id : {steps_[static_cast<size_t>(s)].in, steps_[static_cast<size_t>(s)].out, steps_[static_cast<size_t>(s)].add})
      if (id >= 0)
        for (Need& need : needs)
          if (need.id == root(id)) {
            need.first = std::min(need.first, s);
            need.last = std::max(need.last, s);
          }
  for (Need& need : needs)
    if (need.id == root(output_)) need.last = static_cast<int32_t>(steps_.size());
  std::sort(needs.begin(), needs.end(), [](const Need& a, const Need& b) { return a.floats != b.floats ? a.floats > b.floats : a.id < b.id; });
  int64_t total = 0;
  std::vector<const Need*> placed;
  for (const Need& need : needs) {
    if (need.last < 0) continue;  // drawn into another layer
    if (need.floats > kMostFloats) throw std::bad_alloc();
    std::vector<std::pair<int64_t, int64_t>> taken;
    for (const Need* other : placed)
      if (other->first <= need.last && need.first <= other->last) {
        const int64_t at = plan->places[static_cast<size_t>(other->id)].offset;
        taken.emplace_back(at, at + other->floats);
      }
    std::sort(taken.begin(), taken.end());
    int64_t at = 0;
    for (const auto& [from, to] : taken) {
      if (at + need.floats <= from) break;
      at = std::max(at, rounded(to, kMostLanes));
    }
    plan->places[static_cast<size_t>(need.id)].offset = at;
    total = std::max(total, at + need.floats);
    placed.push_back(&need);
  }
  if (total > kMostFloats) throw std::bad_alloc();
  for (int32_t id = n; id-- > 0;) {  // a whole comes after its parts
    const Tensor& tensor = tensors_[static_cast<size_t>(id)];
    Place& place = plan->places[static_cast<size_t>(id)];
    if (tensor.whole >= 0) place.offset = plan->places[static_cast<size_t>(tensor.whole)].offset + tensor.first_channel * place.plane;
  }
  plan->floats = total + 2 * kMostLanes;
  plan->memory.reset(new float[static_cast<size_t>(plan->floats)]());
  const auto address = reinterpret_cast<uintptr_t>(plan->memory.get());
  plan->arena = plan->memory.get() + (rounded(static_cast<int64_t>(address % 64), 64) - static_cast<int64_t>(address % 64)) / 4;
}

float* Network::at(const Plan& plan, int32_t tensor) const { return plan.arena + plan.places[static_cast<size_t>(tensor)].offset; }

int32_t Network::run_step(const Step& step, const Plan& plan, int32_t threads, const float* in) const {
  const auto place = [&](int32_t id) -> const Place& { return plan.places[static_cast<size_t>(id)]; };
  const auto channels = [&](int32_t id) { return tensors_[static_cast<size_t>(id)].channels; };
  const Place& to = place(step.out);
  float* const out = at(plan, step.out);
  const int64_t pixels = int64_t{to.height} * to.width;
  se_exec exec{};
  exec.threads = threads;
  if (step.kind == Kind::kStart)
    return run_rows(exec, 3, 1, Start{in, out, to.plane, pixels, step.weights.data(), step.bias.data()}, start_tasks);
  const Place& from = place(step.in);
  const float* const source = at(plan, step.in);
  const float* const add = step.add >= 0 ? at(plan, step.add) : nullptr;
  const int64_t add_plane = step.add >= 0 ? place(step.add).plane : 0;
  NetWindow window{from.height, from.width, to.height, to.width, step.kernel, step.stride, step.top, step.left, 0};
  switch (step.kind) {
    case Kind::kPoint: {
      NetPoint args{source, from.plane, out, to.plane, add, add_plane, step.weights.data(), step.bias.data(), channels(step.in), channels(step.out),
                    static_cast<int32_t>(pixels), kChunk, step.low, step.high, false};
      args.pack = net_ceil(args.pixels, kChunk) >= 2 * threads;
      int32_t tasks = net_ceil(args.pixels, args.chunk);
      if (!args.pack) tasks *= net_ceil(args.outputs, table_->tile);
      return run_tasks(threads, tasks, args, table_->point_tasks, net_scratch(args));
    }
    case Kind::kDepth: {
      NetDepth args{};
      args.in = source;
      args.in_plane = from.plane;
      args.out = out;
      args.out_plane = to.plane;
      args.weights = step.weights.data();
      args.bias = step.bias.data();
      args.channels = static_cast<int32_t>(step.bias.size());
      args.low = step.low;
      args.high = step.high;
      const NetPoint point{source, from.plane, out, to.plane, add, add_plane, step.point.data(), step.point_bias.data(), 0, 0, 0, 0,
                           step.point_low, step.point_high, false};
      int64_t width = from.width, together = 1;  // floats of a row of what is kept on the way
      int32_t multiple = 4;
      if (step.drawn == Step::Drawn::kBefore) {
        args.expand = point;
        args.expand.inputs = channels(step.in);
        args.expand.outputs = args.channels;
        together = int64_t{table_->tile} * step.stride;
      } else if (step.drawn == Step::Drawn::kBehind) {
        args.project = point;
        args.project.inputs = args.channels;
        args.project.outputs = channels(step.out);
        width = to.width;
        together = args.channels;
        // Whole vectors, so that a task writes no pixel of the next one's.
        multiple = std::max(4, kMostLanes / std::gcd(kMostLanes, to.width));
      }
      window.rows = std::max(multiple, static_cast<int32_t>(kBandBytes / (4 * width * together)) / multiple * multiple);
      if (window.rows > to.height) window.rows = to.height;
      args.window = window;
      const int32_t tiles = step.drawn == Step::Drawn::kBehind ? 1 : net_ceil(args.channels, table_->tile);
      return run_tasks(threads, tiles * net_ceil(to.height, window.rows), args, table_->depth_tasks, net_scratch(args, table_->tile));
    }
    case Kind::kDense: {
      window.rows = std::min(8, to.height);
      const NetDense args{source, from.plane, out, to.plane, add, add_plane, step.weights.data(), step.bias.data(), channels(step.in), channels(step.out),
                          window, step.low, step.high};
      return run_tasks(threads, net_ceil(to.height, window.rows), args, table_->dense_tasks, net_scratch(args));
    }
    case Kind::kEnlarge: {
      const NetEnlarge args{source, from.plane, out, to.plane, channels(step.in), from.height, from.width, std::min(32, from.height)};
      return run_tasks(threads, args.channels * net_ceil(args.height, args.rows), args, table_->enlarge_tasks, net_scratch(args));
    }
    case Kind::kCopy:
      return run_rows(exec, channels(step.out), 1, Sums{source + step.first * from.plane, nullptr, out, from.plane, to.plane, pixels}, copy_tasks);
    case Kind::kMean:
      return run_rows(exec, channels(step.in), 64, Sums{source, nullptr, out, from.plane, 0, int64_t{from.height} * from.width}, mean_tasks);
    case Kind::kAddVector:
      return run_rows(exec, channels(step.in), 64, Sums{source, add, out, from.plane, to.plane, pixels}, add_tasks);
    default:
      return run_rows(exec, channels(step.out), 32, Linear{source, step.weights.data(), step.bias.data(), out, channels(step.in)}, linear_tasks);
  }
}

void Network::keep(std::unique_ptr<Plan> plan) {
  std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(plan));
  if (idle_.size() > kMostIdle) idle_.erase(idle_.begin());
}

void Network::shape(int32_t height, int32_t width, int32_t* out_height, int32_t* out_width) {
  std::unique_ptr<Plan> made = plan(height, width);
  const Place& last = made->places[static_cast<size_t>(output_)];
  *out_height = last.height;
  *out_width = last.width;
  keep(std::move(made));
}

int32_t Network::run(int32_t threads, const float* in, int32_t height, int32_t width, float* out, int32_t out_height, int32_t out_width,
                     const std::atomic<bool>* stop) {
  if (threads <= 0) threads = cpu_count();
  std::unique_ptr<Plan> made = plan(height, width);
  const Place& last = made->places[static_cast<size_t>(output_)];
  int32_t status = last.height == out_height && last.width == out_width ? SE_OK : SE_ERROR_BAD_SHAPE;
  for (size_t i = 0; status == SE_OK && i < steps_.size(); ++i)
    status = stop != nullptr && stop->load(std::memory_order_relaxed) ? SE_ERROR_CLOSED : run_step(steps_[i], *made, threads, in);
  const size_t pixels = static_cast<size_t>(last.height) * static_cast<size_t>(last.width);
  for (int32_t c = 0; status == SE_OK && c < channels(); ++c)
    std::memcpy(out + static_cast<size_t>(c) * pixels, at(*made, output_) + c * last.plane, sizeof(float) * pixels);
  keep(std::move(made));
  return status;
}

int64_t Network::bytes() {
  size_t floats = 0;
  for (const Step& step : steps_) floats += step.weights.size() + step.bias.size() + step.point.size() + step.point_bias.size();
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& idle : idle_) floats += static_cast<size_t>(idle->floats);
  return static_cast<int64_t>(floats * sizeof(float));
}

}  // namespace se
