// SPDX-License-Identifier: Apache-2.0
// A session's frames, threads and clock. See secondeye/session.h for what each call promises.
//
// A frame's memory is a slot, whose state says whose it is: FREE -> FILLING (submit) -> QUEUED -> LOOKING (first thread)
// -> LOOKED -> WARPING (second thread) -> DONE -> HELD (the caller) -> FREE. A caller that waits already gets the frame
// that is finished next, though a newer one may be before it has woken up: that frame is OFFERED, not DONE. The third
// thread makes depth. One mutex guards states and counters, never pixels. The newest finished slot is kept for se_session_render, so
// there is one slot more than the caller asked for.
#pragma once
#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "session/depth.h"
#include "session/objects.h"
#include "session/picture.h"
#include "session/steady.h"

namespace se {

using Lock = std::unique_lock<std::mutex>;

inline float ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<float, std::milli>(to - from).count();
}

enum class Owner { FREE, FILLING, QUEUED, LOOKING, LOOKED, WARPING, DONE, OFFERED, HELD };

struct Slot {
  Owner owner = Owner::FREE;
  int32_t pins = 0;  // calls of render that read it
  uint64_t ticket = 0, depth_ticket = 0, objects_ticket = 0;
  int64_t timestamp = 0;
  Clock::time_point submitted, depth_time, objects_time;
  uint32_t flags = 0;
  bool has_depth = false, plain_edges = false;
  float latency_ms = 0;
  HostMemory frame, out, nearness;  // bytes, bytes, floats
  std::unique_ptr<PictureMaker::Place> place;
  Background background;
  Pan pan;
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
  explicit State(const se_session_config& config);
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // From now on the caller's depth_user is the third thread's, which releases it at its end.
  void own_user() { release_user_ = config_.depth_release; }

  // ---- calls of the caller's ----

  // stream: of a frame on the session's GPU; else unused.
  int32_t submit(const se_array& frame, bool on_gpu, void* stream, int64_t timestamp, int32_t timeout_ms, uint64_t* ticket);
  int32_t wait(int32_t timeout_ms, se_session_result* result);
  int32_t release(uint64_t ticket);
  // on_gpu: the views' arrays are on the session's, to be written after what stream has queued. These four throw std::bad_alloc.
  int32_t render(const se_session_params* given, int32_t count, const se_render_view* views, bool on_gpu, void* stream, uint64_t* ticket);
  int32_t quilt(const se_session_params* given, const se_quilt& quilt, const se_array& out, bool on_gpu, void* stream, uint64_t* ticket);
  std::shared_ptr<const Overlay> make_overlay(const se_array& rgba, int32_t x, int32_t y, float disparity) const;
  std::shared_ptr<const FlatMask> make_mask(const se_array& cover, float disparity) const;

  void set_overlay(std::shared_ptr<const Overlay> overlay) {
    Lock lock(mutex_);
    extras_.overlay.swap(overlay);
  }
  void set_mask(std::shared_ptr<const FlatMask> mask) {
    Lock lock(mutex_);
    extras_.mask.swap(mask);
  }
  se_session_params params() {
    Lock lock(mutex_);
    return params_;
  }
  void set_params(const se_session_params& params) {
    Lock lock(mutex_);
    params_ = params;
  }

  void close() { end(SE_ERROR_CLOSED); }

  // Whether every thread has ended, but so many, within the time.
  bool ended(int32_t all_but, std::chrono::milliseconds limit);
  void stats(se_session_stats* to);
  const char* depth_error();

  const se_session_config& config() const { return config_; }
  LiveObjects* objects() { return objects_.get(); }  // null: not asked for

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
  void enter_thread() {
    (void)went_well(maker_->enter());
  }

  void look_loop();
  void warp_loop();

  // Depth, of one frame after another.
  void side_loop();

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
  Slot* room();

  // The next slot in a state: the first in order, or (newest wins, unless OFFERED) the last, the others being dropped.
  Slot* next(Owner owner);
  bool waiting(Owner owner) const {
    return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& s) { return s.owner == owner; });
  }
  void copy(const se_array& frame, uint8_t* to) const;
  int32_t bring(Slot& slot, const se_array& frame, bool on_gpu, void* stream);
  bool shrink(Slot& slot);

  // Every call gives this status from now on, unless it has ended before.
  void end(int32_t status);
  // Whether the device did what it was to; else the session ends.
  bool went_well(int32_t status);

  // Depth of a whole frame by the caller's function.
  std::string ask(const uint8_t* frame);
  void scale_depth();
  void note_depth(const std::string& error, float ms);
  // False when the session has ended.
  bool look(Slot& slot);
  // The picture of a slot; false when the session has ended.
  bool show(Slot& slot, const se_session_params& params, Extras& extras);

  float after_depth() const { return timers_[SE_STAGE_WARP].expected + timers_[SE_STAGE_PACK].expected; }

  // The newest finished slot, pinned, with what it is to be shown with; null before the first, or once closed (status).
  // grown: by how much the renderer's memory has.
  Slot* pin(const se_session_params* given, int64_t grown, se_session_params* params, Extras* extras, int32_t* status);
  void unpin(Slot& slot);

  // Sees to it that depth is made when it is due, and waits for it as long as this frame may. Gives the milliseconds.
  float see_to_depth(Slot& slot);
  // Takes what the third thread has found, of this frame or an earlier one; waits for it unless this is to be done
  // at_once. False when the session has ended meanwhile.
  bool collect(Slot& slot, bool at_once);
  // Gives a frame to the third thread, which is idle.
  bool give(Slot& slot, bool small);
  // The next frame that is given; false when the session has ended.
  bool make_depth();
  void finish(Slot& slot, Clock::time_point start, Clock::time_point warped);

  const se_session_config config_;
  const bool may_go_on_;  // frames need not wait for depth that is under way
  void (*release_user_)(void*) = nullptr;
  int32_t map_width_ = 0, map_height_ = 0;
  std::unique_ptr<DepthNetwork> network_;
  std::unique_ptr<SteadyDepth> steady_;
  std::unique_ptr<PictureMaker> maker_;
  std::unique_ptr<Renderer> renderer_;  // from the first call of render on
  std::unique_ptr<PanFinder> pan_;      // where the background is remembered
  std::unique_ptr<LiveObjects> objects_;
  // The first thread's.
  const uint8_t* small_ = nullptr;  // the frame at hand, made small
  std::vector<uint8_t> luma_;
  uint64_t counted_ = 0, depth_ticket_ = 0, cut_ticket_ = 0;
  Clock::time_point depth_time_;
  bool due_ = false;
  // The first thread's, or the third's while it is GIVEN something.
  std::vector<float> depth_;
  std::vector<uint8_t> side_frame_, side_luma_;
  const uint8_t* side_picture_ = nullptr;
  Clock::time_point side_time_, side_begun_;
  uint64_t side_ticket_ = 0;
  bool side_small_ = false;

  std::mutex submit_mutex_, render_mutex_, mutex_;  // taken in this order
  std::condition_variable room_, work_, looked_, ready_, side_, gone_;
  std::vector<Slot> slots_;
  Slot* newest_ = nullptr;
  Side side_state_ = Side::IDLE;
  bool side_failed_ = false;  // what was ANSWERED last
  bool overtaken_ = false;    // by the next frame, while it was made
  int32_t takers_ = 0;        // calls of wait that wait
  bool closed_ = false;
  int32_t ended_ = SE_ERROR_CLOSED;  // why, once it is
  int32_t threads_ = 0;
  se_session_params params_;
  Extras extras_;  // its background is each slot's own
  uint64_t submitted_ = 0, done_ = 0, dropped_ = 0, late_ = 0, cheaper_ = 0, depth_runs_ = 0, depth_failures_ = 0;
  uint64_t memory_ = 0;
  std::array<Timer, SE_STAGES> timers_{};
  std::list<std::string> errors_;
};

}  // namespace se
