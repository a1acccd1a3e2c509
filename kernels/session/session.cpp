// SPDX-License-Identifier: Apache-2.0
// A session's frames, threads and clock. See session.h for what each call promises.
//
// A frame's memory is a slot, whose state says whose it is: FREE -> FILLING (submit) -> QUEUED -> LOOKING (first thread)
// -> LOOKED -> WARPING (second thread) -> DONE -> HELD (the caller) -> FREE. One mutex guards states and counters, never
// pixels. The newest finished slot is kept for se_session_render, so there is one slot more than the caller asked for.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <list>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "core/check.h"
#include "session/depth.h"
#include "session/picture.h"
#include "session/steady.h"

namespace se {
namespace {

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

float ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<float, std::milli>(to - from).count();
}

enum class Owner { FREE, FILLING, QUEUED, LOOKING, LOOKED, WARPING, DONE, HELD };

struct Slot {
  Owner owner = Owner::FREE;
  int32_t pins = 0;  // calls of render that read it
  uint64_t ticket = 0, depth_ticket = 0;
  int64_t timestamp = 0;
  Clock::time_point submitted, depth_time;
  uint32_t flags = 0;
  bool has_depth = false, plain_edges = false;
  float latency_ms = 0;
  std::vector<uint8_t> frame, out;
  std::vector<float> nearness, plane;
  se_array picture{};
};

// The last 1024 durations of a stage, and what the next one will probably take.
struct Timer {
  std::array<float, 1024> ring{};
  uint64_t count = 0;
  float expected = 0;
  void add(float ms) {
    ring[count++ % ring.size()] = ms;
    expected = count == 1 ? ms : expected + 0.2f * (ms - expected);
  }
};

class State {
 public:
  State(const se_session_config& config) : config_(config), params_(config.params) {
    int32_t map_width = config.depth_width, map_height = config.depth_height;
    if (config.depth_model != nullptr) {
      DepthSettings settings;
      settings.model = config.depth_model;
      settings.library = config.onnxruntime != nullptr ? config.onnxruntime : "";
      settings.width = config.depth_width;
      settings.height = config.depth_height;
      std::copy(config.mean, config.mean + 3, settings.mean.begin());
      std::copy(config.std, config.std + 3, settings.std.begin());
      settings.farther = config.farther;
      settings.frame_width = config.width;
      settings.frame_height = config.height;
      settings.threads = config.threads > 0 ? config.threads : se_cpu_count();
      settings.small = (config.cheaper & SE_CHEAPER_SMALL_DEPTH) != 0;
      network_ = DepthNetwork::open(settings);
      map_width = network_->width();
      map_height = network_->height();
    }
    map_width_ = map_width;
    map_height_ = map_height;
    steady_ = std::make_unique<SteadyDepth>(map_width, map_height, config.steady);
    maker_ = std::make_unique<PictureMaker>(config, map_width, map_height);
    renderer_ = std::make_unique<PictureMaker>(config, map_width, map_height);
    luma_x_ = area_axis(config.width, map_width);
    luma_y_ = area_axis(config.height, map_height);
    const size_t cells = static_cast<size_t>(map_width) * map_height;
    const size_t pixels = static_cast<size_t>(config.width) * config.height;
    small_.resize(3 * cells);
    luma_.resize(cells);
    depth_.resize(cells);
    side_luma_.resize(cells);
    if (config.depth_every == 0 && network_ == nullptr) side_frame_.resize(pixels * config.channels);
    slots_.resize(static_cast<size_t>(config.slots) + 1);
    for (Slot& s : slots_) {
      s.frame.resize(pixels * config.channels);
      s.out.resize(static_cast<size_t>(maker_->picture_bytes()));
      s.nearness.resize(cells);
      s.plane.resize(pixels);
    }
    memory_ = slots_.size() * (pixels * (static_cast<size_t>(config.channels) * 3 + 4) + cells * 4) + cells * 9 +
              side_frame_.size() + static_cast<size_t>(steady_->bytes() + maker_->bytes() + renderer_->bytes()) +
              static_cast<size_t>(network_ != nullptr ? network_->bytes() : 0);
  }

  // ---- calls of the caller's ----

  int32_t submit(const se_array& frame, int64_t timestamp, int32_t timeout_ms, uint64_t* ticket) {
    std::lock_guard<std::mutex> order(submit_mutex_);
    Slot* slot = nullptr;
    {
      Lock lock(mutex_);
      wait_for(room_, lock, timeout_ms, [&] { return closed_ || (slot = room()) != nullptr; });
      if (closed_) return SE_ERROR_CLOSED;
      if (slot == nullptr) {
        if (newest_wins()) ++dropped_;
        return SE_ERROR_BUSY;
      }
      slot->owner = Owner::FILLING;
    }
    copy(frame, slot->frame.data());
    {
      Lock lock(mutex_);
      if (closed_) return SE_ERROR_CLOSED;
      slot->ticket = ++submitted_;
      slot->timestamp = timestamp;
      slot->submitted = Clock::now();
      slot->flags = 0;
      slot->owner = Owner::QUEUED;
      if (ticket != nullptr) *ticket = slot->ticket;
    }
    work_.notify_all();
    return SE_OK;
  }

  int32_t wait(int32_t timeout_ms, se_session_result* result) {
    Lock lock(mutex_);
    Slot* slot = nullptr;
    wait_for(ready_, lock, timeout_ms, [&] { return closed_ || (slot = next(Owner::DONE)) != nullptr; });
    if (closed_) return SE_ERROR_CLOSED;
    if (slot == nullptr) return SE_ERROR_BUSY;
    slot->owner = Owner::HELD;
    *result = {slot->ticket, slot->timestamp, slot->depth_ticket, slot->flags, slot->latency_ms, slot->picture};
    lock.unlock();
    room_.notify_all();
    return SE_OK;
  }

  int32_t release(uint64_t ticket) {
    {
      Lock lock(mutex_);
      const auto held = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) {
        return s.owner == Owner::HELD && s.ticket == ticket;
      });
      if (held == slots_.end()) return SE_ERROR_BAD_PARAMETER;
      held->owner = Owner::FREE;
    }
    room_.notify_all();
    return SE_OK;
  }

  int32_t render(const se_session_params* given, int32_t count, const se_render_view* views, uint64_t* ticket) {
    std::lock_guard<std::mutex> one(render_mutex_);  // of the renderer's memory
    Slot* slot = nullptr;
    std::shared_ptr<const Overlay> overlay;
    se_session_params params;
    {
      Lock lock(mutex_);
      if (closed_) return SE_ERROR_CLOSED;
      if (newest_ == nullptr) return SE_ERROR_BUSY;
      slot = newest_;
      ++slot->pins;
      overlay = overlay_;
      params = given != nullptr ? *given : params_;
    }
    for (int32_t k = 0; k < count; ++k)
      renderer_->view(slot->frame.data(), slot->has_depth ? slot->plane.data() : nullptr, params, overlay.get(),
                      views[k].eye, views[k].shift, views[k].out);
    if (ticket != nullptr) *ticket = slot->ticket;
    {
      Lock lock(mutex_);
      --slot->pins;
    }
    room_.notify_all();
    return SE_OK;
  }

  void set_overlay(std::shared_ptr<const Overlay> overlay) {
    Lock lock(mutex_);
    overlay_.swap(overlay);
  }
  se_session_params params() {
    Lock lock(mutex_);
    return params_;
  }
  void set_params(const se_session_params& params) {
    Lock lock(mutex_);
    params_ = params;
  }

  void close() {
    {
      Lock lock(mutex_);
      closed_ = true;
    }
    if (network_ != nullptr) network_->stop();
    for (std::condition_variable* c : {&room_, &work_, &looked_, &ready_, &side_}) c->notify_all();
  }

  // Whether every thread has ended, within the time.
  bool ended(std::chrono::milliseconds limit) {
    Lock lock(mutex_);
    return gone_.wait_for(lock, limit, [&] { return threads_ == 0; });
  }

  void stats(se_session_stats* to) {
    std::array<Timer, SE_STAGES> timers;
    {
      Lock lock(mutex_);
      *to = {submitted_, done_, dropped_, late_, cheaper_, depth_runs_, depth_failures_, memory_, {}};
      timers = timers_;
    }
    for (int32_t k = 0; k < SE_STAGES; ++k) {
      const auto n = static_cast<int64_t>(std::min<uint64_t>(timers[k].count, timers[k].ring.size()));
      if (n == 0) continue;
      float* first = timers[k].ring.data();
      std::sort(first, first + n);
      const auto at = [&](double share) { return first[std::min(n - 1, static_cast<int64_t>(share * static_cast<double>(n)))]; };
      to->stages[k] = {at(0.5), at(0.9), at(0.99), first[n - 1], timers[k].count};
    }
  }

  const char* depth_error() {
    Lock lock(mutex_);
    return errors_.empty() ? "" : errors_.back().c_str();
  }

  const se_session_config& config() const { return config_; }

  // ---- the threads' ----

  void begin_thread() {
    Lock lock(mutex_);
    ++threads_;
  }
  void end_thread() {
    Lock lock(mutex_);
    --threads_;
    gone_.notify_all();
  }

  void look_loop() {
    for (;;) {
      Slot* slot = nullptr;
      {
        Lock lock(mutex_);
        work_.wait(lock, [&] { return closed_ || (slot = next(Owner::QUEUED)) != nullptr; });
        if (closed_) return;
        slot->owner = Owner::LOOKING;
      }
      room_.notify_all();
      look(*slot);
      {
        Lock lock(mutex_);
        slot->owner = Owner::LOOKED;
      }
      looked_.notify_all();
    }
  }

  void warp_loop() {
    for (;;) {
      Slot* slot = nullptr;
      std::shared_ptr<const Overlay> overlay;
      se_session_params params;
      {
        Lock lock(mutex_);
        looked_.wait(lock, [&] { return closed_ || (slot = next(Owner::LOOKED)) != nullptr; });
        if (closed_) return;
        slot->owner = Owner::WARPING;
        overlay = overlay_;
        params = params_;
      }
      const Clock::time_point start = Clock::now();
      const float* plane = slot->has_depth ? slot->plane.data() : nullptr;
      if (plane != nullptr) maker_->plane(slot->frame.data(), slot->nearness.data(), slot->plain_edges, slot->plane.data());
      maker_->views(slot->frame.data(), plane, params, overlay.get());
      const Clock::time_point warped = Clock::now();
      slot->picture = maker_->pack(slot->frame.data(), plane, params, slot->out.data());
      finish(*slot, start, warped);
    }
  }

  // Depth beside the frames, as often as it can be had (depth_every 0).
  void side_loop() {
    for (;;) {
      {
        Lock lock(mutex_);
        side_.wait(lock, [&] { return closed_ || side_state_ == Side::GIVEN; });
        if (closed_) return;
      }
      const Clock::time_point start = Clock::now();
      const std::string error = network_ != nullptr ? network_->run(false, depth_.data()) : ask(side_frame_.data());
      Lock lock(mutex_);
      note_depth(error, ms_between(start, Clock::now()));
      side_state_ = error.empty() ? Side::ANSWERED : Side::IDLE;
    }
  }

 private:
  enum class Side { IDLE, GIVEN, ANSWERED };

  template <typename Ready>
  void wait_for(std::condition_variable& c, Lock& lock, int32_t timeout_ms, Ready ready) {
    if (timeout_ms < 0)
      c.wait(lock, ready);
    else if (timeout_ms == 0)
      ready();
    else
      c.wait_for(lock, std::chrono::milliseconds(timeout_ms), ready);
  }

  bool newest_wins() const { return config_.policy == SE_POLICY_NEWEST; }

  void drop(Slot& slot) {
    slot.owner = Owner::FREE;
    ++dropped_;
  }

  // A slot for a new frame, or null. Called with the mutex held.
  Slot* room() {
    const auto usable = [&](const Slot& s) { return s.pins == 0 && &s != newest_; };
    for (Slot& s : slots_)
      if (s.owner == Owner::FREE && usable(s)) return &s;
    if (!newest_wins()) return nullptr;
    for (const Owner owner : {Owner::QUEUED, Owner::LOOKED, Owner::DONE}) {
      Slot* oldest = nullptr;
      for (Slot& s : slots_)
        if (s.owner == owner && usable(s) && (oldest == nullptr || s.ticket < oldest->ticket)) oldest = &s;
      if (oldest != nullptr) {
        ++dropped_;
        return oldest;
      }
    }
    return nullptr;
  }

  // The next slot in a state: the first in order, or (newest wins) the last, the others being dropped.
  Slot* next(Owner owner) {
    Slot* found = nullptr;
    for (Slot& s : slots_) {
      if (s.owner != owner) continue;
      if (found == nullptr) {
        found = &s;
        continue;
      }
      const bool later = s.ticket > found->ticket;
      if (newest_wins()) drop(later ? *found : s);
      if (later == newest_wins()) found = &s;
    }
    return found;
  }

  void copy(const se_array& frame, uint8_t* to) const {
    const int32_t width = config_.width, channels = config_.channels;
    for (int32_t y = 0; y < config_.height; ++y, to += int64_t{width} * channels) {
      const uint8_t* row = static_cast<const uint8_t*>(frame.data) + y * frame.stride_y;
      if (frame.stride_c == 1 && frame.stride_x == channels) {
        std::memcpy(to, row, static_cast<size_t>(width) * channels);
        continue;
      }
      for (int32_t x = 0; x < width; ++x)
        for (int32_t c = 0; c < channels; ++c) to[x * channels + c] = row[x * frame.stride_x + c * frame.stride_c];
    }
  }

  void shrink(const uint8_t* frame) {
    se_exec exec{};
    exec.threads = config_.threads;
    se_array source = packed(frame, config_.height, config_.width, config_.channels, SE_UINT8, 1);
    source.channels = 3;
    const se_array small = packed(small_.data(), map_height_, map_width_, 3, SE_UINT8, 1);
    se_resample(&exec, &source, &luma_x_.view, &luma_y_.view, &small);
    for (size_t k = 0; k < luma_.size(); ++k)
      luma_[k] = static_cast<uint8_t>((77 * small_[3 * k] + 150 * small_[3 * k + 1] + 29 * small_[3 * k + 2]) >> 8);
  }

  // Depth of a whole frame by the caller's function.
  std::string ask(const uint8_t* frame) {
    const se_array picture = packed(frame, config_.height, config_.width, config_.channels, SE_UINT8, 1);
    const se_array map = packed(depth_.data(), map_height_, map_width_, 1, SE_FLOAT32, 4);
    const int32_t code = config_.depth(config_.depth_user, &picture, &map);
    if (code != 0) return "the depth function failed with code " + std::to_string(code);
    for (const float v : depth_)
      if (!(v - v == 0.0f)) return "the depth function gave values that are not finite";
    return {};
  }

  void note_depth(const std::string& error, float ms) {
    ++depth_runs_;
    timers_[SE_STAGE_DEPTH].add(ms);
    if (error.empty()) return;
    ++depth_failures_;
    if (errors_.size() < 64 && (errors_.empty() || errors_.back() != error)) errors_.push_back(error);
  }

  void look(Slot& slot) {
    const Clock::time_point start = Clock::now();
    shrink(slot.frame.data());
    const bool cut = steady_->look(luma_.data());
    if (cut) {
      slot.flags |= SE_RESULT_CUT;
      depth_ticket_ = 0;
      cut_ticket_ = slot.ticket;
    }
    float depth_ms = 0;
    if (config_.depth_every == 0)
      look_aside(slot);
    else
      depth_ms = look_in_turn(slot, cut);
    slot.has_depth = steady_->has_depth();
    if (slot.has_depth) std::memcpy(slot.nearness.data(), steady_->nearness(), slot.nearness.size() * sizeof(float));
    slot.depth_ticket = depth_ticket_;
    slot.depth_time = depth_time_;
    Lock lock(mutex_);
    timers_[SE_STAGE_LOOK].add(ms_between(start, Clock::now()) - depth_ms);
    const float left = config_.deadline_ms - ms_between(slot.submitted, Clock::now());
    slot.plain_edges = config_.deadline_ms > 0 && (config_.cheaper & SE_CHEAPER_PLAIN_EDGES) != 0 && left < after_depth();
    if (slot.plain_edges) slot.flags |= SE_RESULT_CHEAPER;
  }

  float after_depth() const { return timers_[SE_STAGE_WARP].expected + timers_[SE_STAGE_PACK].expected; }

  // Every n-th frame's depth, before the frame goes on. Gives the milliseconds that it took.
  float look_in_turn(Slot& slot, bool cut) {
    const bool due = cut || !steady_->has_depth() || counted_ % static_cast<uint64_t>(config_.depth_every) == 0;
    ++counted_;
    if (!due) return 0;
    bool small = false;
    if (config_.deadline_ms > 0) {
      Lock lock(mutex_);
      Timer& timer = timers_[SE_STAGE_DEPTH];
      const float left = config_.deadline_ms - ms_between(slot.submitted, Clock::now()) - after_depth();
      if (left < timer.expected && timer.count > 0) {
        small = (config_.cheaper & SE_CHEAPER_SMALL_DEPTH) != 0 && network_ != nullptr && network_->has_small();
        const bool skip = (config_.cheaper & SE_CHEAPER_NO_DEPTH) != 0 && steady_->has_depth() &&
                          !(small && left >= timer.expected / 3);
        if (small || skip) slot.flags |= SE_RESULT_CHEAPER;
        if (skip) {
          timer.expected *= 0.9f;  // one slow run is not held against it for ever
          return 0;
        }
      }
    }
    const Clock::time_point start = Clock::now();
    std::string error;
    if (network_ != nullptr) {
      se_exec exec{};
      exec.threads = config_.threads;
      const se_array frame = packed(slot.frame.data(), config_.height, config_.width, config_.channels, SE_UINT8, 1);
      network_->prepare(exec, frame, small);
      error = network_->run(small, depth_.data());
    } else {
      error = ask(slot.frame.data());
    }
    const float ms = ms_between(start, Clock::now());
    {
      Lock lock(mutex_);
      // What is expected is a run of full size.
      const float expected = timers_[SE_STAGE_DEPTH].expected;
      note_depth(error, ms);
      if (small) timers_[SE_STAGE_DEPTH].expected = expected * 0.98f;
    }
    if (!error.empty()) {
      slot.flags |= SE_RESULT_DEPTH_FAILED;
      return ms;
    }
    steady_->take(depth_.data());
    depth_ticket_ = slot.ticket;
    depth_time_ = slot.submitted;
    slot.flags |= SE_RESULT_OWN_DEPTH;
    return ms;
  }

  // What the side thread has found is carried to this frame, and it is given this frame when it is idle.
  void look_aside(Slot& slot) {
    Side state;
    {
      Lock lock(mutex_);
      state = side_state_;
    }
    if (state == Side::ANSWERED) {
      if (side_ticket_ >= cut_ticket_) {
        steady_->take_older(depth_.data(), side_luma_.data());
        depth_ticket_ = side_ticket_;
        depth_time_ = side_time_;
      }
      state = Side::IDLE;
    }
    if (state != Side::IDLE) return;
    const se_array frame = packed(slot.frame.data(), config_.height, config_.width, config_.channels, SE_UINT8, 1);
    if (network_ != nullptr) {
      se_exec exec{};
      exec.threads = config_.threads;
      network_->prepare(exec, frame, false);
    } else {
      std::memcpy(side_frame_.data(), slot.frame.data(), side_frame_.size());
    }
    std::memcpy(side_luma_.data(), steady_->luma(), side_luma_.size());
    side_ticket_ = slot.ticket;
    side_time_ = slot.submitted;
    {
      Lock lock(mutex_);
      side_state_ = Side::GIVEN;
    }
    side_.notify_all();
  }

  void finish(Slot& slot, Clock::time_point start, Clock::time_point warped) {
    const Clock::time_point now = Clock::now();
    {
      Lock lock(mutex_);
      slot.latency_ms = ms_between(slot.submitted, now);
      if (config_.deadline_ms > 0 && slot.latency_ms > config_.deadline_ms) {
        slot.flags |= SE_RESULT_LATE;
        ++late_;
      }
      if ((slot.flags & SE_RESULT_CHEAPER) != 0) ++cheaper_;
      timers_[SE_STAGE_WARP].add(ms_between(start, warped));
      timers_[SE_STAGE_PACK].add(ms_between(warped, now));
      timers_[SE_STAGE_TOTAL].add(slot.latency_ms);
      if (slot.depth_ticket != 0) timers_[SE_STAGE_AGE].add(ms_between(slot.depth_time, now));
      ++done_;
      slot.owner = Owner::DONE;
      newest_ = &slot;
    }
    ready_.notify_all();
    room_.notify_all();
  }

  const se_session_config config_;
  int32_t map_width_ = 0, map_height_ = 0;
  std::unique_ptr<DepthNetwork> network_;
  std::unique_ptr<SteadyDepth> steady_;
  std::unique_ptr<PictureMaker> maker_, renderer_;
  AxisTable luma_x_, luma_y_;
  std::vector<uint8_t> small_, luma_;  // the first thread's
  std::vector<float> depth_;           // the first thread's, or the side thread's while it is GIVEN
  uint64_t counted_ = 0, depth_ticket_ = 0, cut_ticket_ = 0;
  Clock::time_point depth_time_, side_time_;
  std::vector<uint8_t> side_frame_, side_luma_;
  uint64_t side_ticket_ = 0;

  std::mutex submit_mutex_, render_mutex_, mutex_;  // taken in this order
  std::condition_variable room_, work_, looked_, ready_, side_, gone_;
  std::vector<Slot> slots_;
  Slot* newest_ = nullptr;
  Side side_state_ = Side::IDLE;
  bool closed_ = false;
  int32_t threads_ = 0;
  se_session_params params_;
  std::shared_ptr<const Overlay> overlay_;
  uint64_t submitted_ = 0, done_ = 0, dropped_ = 0, late_ = 0, cheaper_ = 0, depth_runs_ = 0, depth_failures_ = 0;
  uint64_t memory_ = 0;
  std::array<Timer, SE_STAGES> timers_{};
  std::list<std::string> errors_;
};

bool between(float v, float low, float high) { return v >= low && v <= high; }  // false for NaN

int32_t check_params(const se_session_params& p) {
  if (!between(p.strength, 0, 20) || !between(p.convergence, 0, 1)) return SE_ERROR_BAD_PARAMETER;
  if (p.layout < SE_LAYOUT_SBS || p.layout > SE_LAYOUT_DEPTH) return SE_ERROR_BAD_PARAMETER;
  for (const int32_t m : p.anaglyph)
    if (m < -65536 || m > 65536) return SE_ERROR_BAD_PARAMETER;
  return SE_OK;
}

int32_t check_config(const se_session_config& c) {
  if (c.width < 16 || c.height < 16 || c.width > 8192 || c.height > 8192) return SE_ERROR_BAD_SHAPE;
  if (c.channels != 3 && c.channels != 4) return SE_ERROR_BAD_SHAPE;
  if (c.policy != SE_POLICY_NEWEST && c.policy != SE_POLICY_EVERY) return SE_ERROR_BAD_PARAMETER;
  if (c.slots < 2 || c.slots > 16 || c.depth_every < 0 || c.depth_every > 1000) return SE_ERROR_BAD_PARAMETER;
  if (!between(c.deadline_ms, 0, 1e6f) || !between(c.steady, 0, 0.98f)) return SE_ERROR_BAD_PARAMETER;
  if (c.widen < 0 || c.widen > 16 || c.threads < 0 || c.threads > 256 || c.cheaper > 7) return SE_ERROR_BAD_PARAMETER;
  if ((c.depth_model == nullptr) == (c.depth == nullptr)) return SE_ERROR_NULL_POINTER;
  const bool sized = c.depth_width != 0 || c.depth_height != 0 || c.depth_model == nullptr;
  if (sized && (c.depth_width < 8 || c.depth_height < 8 || c.depth_width > 4096 || c.depth_height > 4096))
    return SE_ERROR_BAD_SHAPE;
  return check_params(c.params);
}

void say(char* message, size_t size, const char* text) {
  if (message == nullptr || size == 0) return;
  std::strncpy(message, text, size - 1);
  message[size - 1] = 0;
}

}  // namespace
}  // namespace se

struct se_session {
  std::shared_ptr<se::State> state;
  std::vector<std::thread> threads;
};

using namespace se;

namespace {

void start(se_session& session, void (State::*loop)()) {
  // The thread keeps the state: a depth function that never returns must not take it away.
  session.state->begin_thread();
  try {
    session.threads.emplace_back([state = session.state, loop] {
      (state.get()->*loop)();
      state->end_thread();
    });
  } catch (...) {
    session.state->end_thread();
    throw;
  }
}

}  // namespace

extern "C" {

void se_session_defaults(se_session_config* config, int32_t width, int32_t height, int32_t channels) {
  if (config == nullptr) return;
  *config = se_session_config{};
  config->struct_size = sizeof(se_session_config);
  config->width = width;
  config->height = height;
  config->channels = channels;
  config->policy = SE_POLICY_NEWEST;
  config->slots = 4;
  config->depth_every = 1;
  config->cheaper = SE_CHEAPER_NO_DEPTH;
  config->steady = 0.8f;
  config->widen = height >= 540 ? std::min(16, static_cast<int32_t>(2.0 * height / 1080 + 0.5)) : 1;
  config->farther = -1;
  config->params.strength = 2.5f;
  config->params.convergence = 0.5f;
  config->params.fill = 1;
  // Dubois's least-squares matrix for red-cyan glasses.
  static const int32_t dubois[18] = {1790, 1839, 672, -45, -131, -29, -254, -254, -98, 1544, 3117, 37, -197, -205, -70, -106, -381, 5054};
  std::copy(dubois, dubois + 18, config->params.anaglyph);
}

int32_t se_session_create(const se_session_config* config, se_session** session, char* message, size_t message_size) {
  if (config == nullptr || session == nullptr) return SE_ERROR_NULL_POINTER;
  *session = nullptr;
  if (config->struct_size != sizeof(se_session_config)) {
    say(message, message_size, "the configuration is of another version of secondeye/session.h; begin with se_session_defaults.");
    return SE_ERROR_BAD_PARAMETER;
  }
  const int32_t status = check_config(*config);
  if (status != SE_OK) {
    say(message, message_size, se_status_string(status));
    return status;
  }
  std::unique_ptr<se_session> made;
  try {
    made = std::make_unique<se_session>();
    made->state = std::make_shared<State>(*config);
    start(*made, &State::look_loop);
    start(*made, &State::warp_loop);
    if (config->depth_every == 0) start(*made, &State::side_loop);
  } catch (const std::bad_alloc&) {
    if (made != nullptr) se_session_destroy(made.release());
    say(message, message_size, "memory for the session's buffers could not be had");
    return SE_ERROR_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    if (made != nullptr) se_session_destroy(made.release());
    say(message, message_size, error.what());
    return SE_ERROR_MODEL;
  }
  *session = made.release();
  return SE_OK;
}

void se_session_close(se_session* session) {
  if (session != nullptr && session->state != nullptr) session->state->close();
}

void se_session_destroy(se_session* session) {
  if (session == nullptr) return;
  if (session->state != nullptr) {
    session->state->close();
    const bool ended = session->state->ended(std::chrono::milliseconds(900));
    for (std::thread& thread : session->threads) ended ? thread.join() : thread.detach();
  }
  delete session;
}

int32_t se_session_get_params(se_session* session, se_session_params* params) {
  if (session == nullptr || params == nullptr) return SE_ERROR_NULL_POINTER;
  *params = session->state->params();
  return SE_OK;
}

int32_t se_session_set_params(se_session* session, const se_session_params* params) {
  if (session == nullptr || params == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(check_params(*params));
  session->state->set_params(*params);
  return SE_OK;
}

int32_t se_session_set_overlay(se_session* session, const se_array* rgba, int32_t x, int32_t y, float disparity) {
  if (session == nullptr) return SE_ERROR_NULL_POINTER;
  if (rgba == nullptr) {
    session->state->set_overlay(nullptr);
    return SE_OK;
  }
  SE_TRY(check_array(rgba, 1u << SE_UINT8, 4, 4));
  const se_session_config& config = session->state->config();
  if (rgba->width > config.width || rgba->height > config.height) return SE_ERROR_BAD_SHAPE;
  if (!between(disparity, -16384, 16384) || std::max(std::abs(x), std::abs(y)) > 16384) return SE_ERROR_BAD_PARAMETER;
  try {
    auto overlay = std::make_shared<Overlay>(Overlay{{}, rgba->width, rgba->height, x, y, disparity});
    overlay->rgba.reserve(static_cast<size_t>(4) * rgba->width * rgba->height);
    for (int32_t row = 0; row < rgba->height; ++row)
      for (int32_t column = 0; column < rgba->width; ++column)
        for (int32_t c = 0; c < 4; ++c)
          overlay->rgba.push_back(*(static_cast<const uint8_t*>(rgba->data) + row * rgba->stride_y + column * rgba->stride_x + c * rgba->stride_c));
    session->state->set_overlay(std::move(overlay));
  } catch (const std::bad_alloc&) {
    return SE_ERROR_OUT_OF_MEMORY;
  }
  return SE_OK;
}

int32_t se_session_submit(se_session* session, const se_array* frame, int64_t timestamp, int32_t timeout_ms, uint64_t* ticket) {
  if (session == nullptr) return SE_ERROR_NULL_POINTER;
  const se_session_config& config = session->state->config();
  SE_TRY(check_array(frame, 1u << SE_UINT8, config.channels, config.channels));
  if (frame->width != config.width || frame->height != config.height) return SE_ERROR_BAD_SHAPE;
  return session->state->submit(*frame, timestamp, timeout_ms, ticket);
}

int32_t se_session_wait(se_session* session, int32_t timeout_ms, se_session_result* result) {
  if (session == nullptr || result == nullptr) return SE_ERROR_NULL_POINTER;
  return session->state->wait(timeout_ms, result);
}

int32_t se_session_release(se_session* session, uint64_t ticket) {
  return session == nullptr ? SE_ERROR_NULL_POINTER : session->state->release(ticket);
}

int32_t se_session_render(se_session* session, const se_session_params* params, int32_t count,
                          const se_render_view* views, uint64_t* ticket) {
  if (session == nullptr || views == nullptr) return SE_ERROR_NULL_POINTER;
  if (count < 1 || count > 256) return SE_ERROR_BAD_PARAMETER;
  if (params != nullptr) SE_TRY(check_params(*params));
  const se_session_config& config = session->state->config();
  for (int32_t k = 0; k < count; ++k) {
    SE_TRY(check_array(&views[k].out, 1u << SE_UINT8, config.channels, config.channels));
    if (views[k].out.width != config.width || views[k].out.height != config.height) return SE_ERROR_BAD_SHAPE;
    if (!between(views[k].eye, -2, 2) || !between(views[k].shift, -16384, 16384)) return SE_ERROR_BAD_PARAMETER;
  }
  return session->state->render(params, count, views, ticket);
}

int32_t se_session_get_stats(se_session* session, se_session_stats* stats) {
  if (session == nullptr || stats == nullptr) return SE_ERROR_NULL_POINTER;
  session->state->stats(stats);
  return SE_OK;
}

const char* se_session_depth_error(se_session* session) {
  return session == nullptr ? "" : session->state->depth_error();
}

}  // extern "C"
