// SPDX-License-Identifier: Apache-2.0
// What a session's first thread does: it looks at a frame and sees to its depth, which the third thread makes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "session/state.h"

namespace se {

bool State::shrink(Slot& slot) {
  if (!went_well(maker_->shrink(*slot.place, &small_))) return false;
  for (size_t k = 0; k < luma_.size(); ++k)
    luma_[k] = static_cast<uint8_t>((77 * small_[3 * k] + 150 * small_[3 * k + 1] + 29 * small_[3 * k + 2]) >> 8);
  return true;
}

std::string State::ask(const uint8_t* frame) {
  const se_array picture = packed(frame, config_.height, config_.width, config_.channels, SE_UINT8, 1);
  const se_array map = packed(depth_.data(), map_height_, map_width_, 1, SE_FLOAT32, 4);
  const int32_t code = config_.depth(config_.depth_user, &picture, &map);
  if (code != 0) return "the depth function failed with code " + std::to_string(code);
  for (const float v : depth_)
    if (!(v - v == 0.0f)) return "the depth function gave values that are not finite";
  return {};
}

// Any scale will do: a power of two, which is exact, brings the greatest to 1 .. 2.
void State::scale_depth() {
  float greatest = 0;
  for (const float v : depth_) greatest = std::max(greatest, std::abs(v));
  const int32_t power = greatest > 0 ? std::ilogb(greatest) : 0;
  // In two steps, for 2^149 is no float.
  const float half = std::ldexp(1.0f, -(power / 2)), rest = std::ldexp(1.0f, -(power - power / 2));
  if (power != 0)
    for (float& v : depth_) v = v * half * rest;
}

void State::note_depth(const std::string& error, float ms) {
  ++depth_runs_;
  timers_[SE_STAGE_DEPTH].add(ms);
  if (error.empty()) return;
  ++depth_failures_;
  // The last one stands at the end; none goes, for callers have pointers to them.
  const auto known = std::find(errors_.begin(), errors_.end(), error);
  if (known != errors_.end())
    errors_.splice(errors_.end(), errors_, known);
  else if (errors_.size() < 64)
    errors_.push_back(error);
}

bool State::look(Slot& slot) {
  const Clock::time_point start = Clock::now();
  if (!shrink(slot)) return false;
  const bool cut = steady_->look(luma_.data());
  if (cut) {
    slot.flags |= SE_RESULT_CUT;
    depth_ticket_ = 0;
    cut_ticket_ = slot.ticket;
  }
  if (pan_ != nullptr)
    slot.pan = pan_->look(slot.frame.data(), !cut && steady_->has_depth() ? steady_->blocks() : nullptr, steady_->nearness(),
                          map_width_, map_height_);
  if (objects_ != nullptr)
    objects_->look(slot.frame.data(), slot.ticket, slot.submitted, luma_.data(), small_, cut ? nullptr : steady_->blocks());
  const float depth_ms = see_to_depth(slot);
  slot.has_depth = steady_->has_depth();
  if (slot.has_depth) std::memcpy(slot.nearness.data(), steady_->nearness(), slot.nearness.size());
  slot.objects_ticket = slot.has_depth && objects_ != nullptr ? objects_->ticket() : 0;
  if (slot.objects_ticket != 0) {
    objects_->align(slot.nearness.as<float>());
    slot.objects_time = objects_->time();
  }
  slot.depth_ticket = depth_ticket_;
  slot.depth_time = depth_time_;
  Lock lock(mutex_);
  timers_[SE_STAGE_LOOK].add(ms_between(start, Clock::now()) - depth_ms);
  const float left = config_.deadline_ms - ms_between(slot.submitted, Clock::now());
  slot.plain_edges = config_.deadline_ms > 0 && (config_.cheaper & SE_CHEAPER_PLAIN_EDGES) != 0 && left < after_depth();
  if (slot.plain_edges) slot.flags |= SE_RESULT_CHEAPER;
  return true;
}

// Frames that may be shown with the last depth, carried, wait for their own until their deadline or, where the newest
// frame wins, until the next one comes, and not at all where the run before took longer than that.
float State::see_to_depth(Slot& slot) {
  const bool aside = config_.depth_every == 0;
  if (!collect(slot, aside || steady_->has_depth())) return 0;
  due_ = due_ || aside || !steady_->has_depth() || counted_ % static_cast<uint64_t>(config_.depth_every) == 0;
  ++counted_;
  if (!due_) return 0;
  const Clock::time_point start = Clock::now();
  const bool carries = aside || (may_go_on_ && steady_->has_depth());
  bool small = false, waits = !aside, busy;
  Clock::time_point limit = Clock::time_point::max();
  {
    Lock lock(mutex_);
    busy = side_state_ == Side::GIVEN;  // with a frame that has gone on: this one carries too
    const Timer& depth = timers_[SE_STAGE_DEPTH];
    if (config_.deadline_ms > 0 && !aside) {
      const float left = config_.deadline_ms - ms_between(slot.submitted, start) - after_depth();
      if (depth.count > 0 && left < depth.expected) {
        small = (config_.cheaper & SE_CHEAPER_SMALL_DEPTH) != 0 && network_ != nullptr && network_->has_small();
        if (carries && !(small && left >= depth.expected / 3)) small = waits = false;
      }
      // What is left to do takes longer beside a network that runs on.
      if (carries) limit = start + std::chrono::microseconds(static_cast<int64_t>(1e3f * (left - after_depth())));
    }
    if (busy) small = false;
    if (busy || (carries && newest_wins() && overtaken_ && !small)) waits = false;
  }
  if (!busy) {
    if (!give(slot, small)) return 0;
    due_ = false;
  }
  if (waits) {
    Lock lock(mutex_);
    const auto over = [&] {
      return closed_ || side_state_ != Side::GIVEN || (carries && newest_wins() && waiting(Owner::QUEUED));
    };
    if (limit == Clock::time_point::max())
      work_.wait(lock, over);
    else
      work_.wait_until(lock, limit, over);
    lock.unlock();
    collect(slot, true);
  }
  if (small || (!aside && carries && (slot.flags & (SE_RESULT_OWN_DEPTH | SE_RESULT_DEPTH_FAILED)) == 0))
    slot.flags |= SE_RESULT_CHEAPER;
  return ms_between(start, Clock::now());
}

bool State::collect(Slot& slot, bool at_once) {
  bool failed;
  {
    Lock lock(mutex_);
    if (!at_once) work_.wait(lock, [&] { return closed_ || side_state_ != Side::GIVEN; });
    if (closed_) return false;
    if (side_state_ != Side::ANSWERED) return true;
    side_state_ = Side::IDLE;
    failed = side_failed_;
  }
  if (failed) {
    slot.flags |= SE_RESULT_DEPTH_FAILED;
    return true;
  }
  if (side_ticket_ < cut_ticket_) return true;  // of a shot that is over
  if (side_ticket_ == slot.ticket) {
    steady_->take(depth_.data());
    slot.flags |= SE_RESULT_OWN_DEPTH;
  } else if (!steady_->take_older(depth_.data(), side_luma_.data())) {
    return true;  // the depth before goes on
  }
  depth_ticket_ = side_ticket_;
  depth_time_ = side_time_;
  return true;
}

bool State::give(Slot& slot, bool small) {
  side_begun_ = Clock::now();
  side_picture_ = slot.frame.data();
  if (network_ != nullptr) {
    const int32_t status = network_->prepare(maker_->looking(), slot.place->frame, small);
    if (!went_well(status == SE_OK ? maker_->looked() : status)) return false;
  } else if (may_go_on_) {  // the frame may be gone before its depth is there
    std::memcpy(side_frame_.data(), side_picture_, side_frame_.size());
    side_picture_ = side_frame_.data();
  }
  std::memcpy(side_luma_.data(), steady_->luma(), side_luma_.size());
  side_ticket_ = slot.ticket;
  side_time_ = slot.submitted;
  side_small_ = small;
  {
    Lock lock(mutex_);
    side_state_ = Side::GIVEN;
  }
  side_.notify_all();
  return true;
}

void State::side_loop() {
  while (make_depth()) {
  }
  if (release_user_ != nullptr) release_user_(config_.depth_user);
}

bool State::make_depth() {
  {
    Lock lock(mutex_);
    side_.wait(lock, [&] { return closed_ || side_state_ == Side::GIVEN; });
    if (closed_) return false;
  }
  const std::string error = network_ != nullptr ? network_->run(side_small_, depth_.data()) : ask(side_picture_);
  if (error.empty()) scale_depth();
  {
    Lock lock(mutex_);
    Timer& timer = timers_[SE_STAGE_DEPTH];
    const float expected = timer.expected;  // of a run of full size
    note_depth(error, ms_between(side_begun_, Clock::now()));
    if (side_small_) timer.expected = expected * 0.98f;
    side_failed_ = !error.empty();
    overtaken_ = submitted_ > side_ticket_;
    side_state_ = Side::ANSWERED;
  }
  work_.notify_all();
  return true;
}

}  // namespace se
