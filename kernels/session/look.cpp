// SPDX-License-Identifier: Apache-2.0
// What a session's first thread does: looks at a frame, sees to its depth, in turn or on the side.
#include <algorithm>
#include <cstring>

#include "session/state.h"

namespace se {

void State::shrink(const uint8_t* frame) {
  se_exec exec{};
  exec.threads = config_.threads;
  se_array source = packed(frame, config_.height, config_.width, config_.channels, SE_UINT8, 1);
  source.channels = 3;
  const se_array small = packed(small_.data(), map_height_, map_width_, 3, SE_UINT8, 1);
  se_resample(&exec, &source, &luma_x_.view, &luma_y_.view, &small);
  for (size_t k = 0; k < luma_.size(); ++k)
    luma_[k] = static_cast<uint8_t>((77 * small_[3 * k] + 150 * small_[3 * k + 1] + 29 * small_[3 * k + 2]) >> 8);
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

void State::note_depth(const std::string& error, float ms) {
  ++depth_runs_;
  timers_[SE_STAGE_DEPTH].add(ms);
  if (error.empty()) return;
  ++depth_failures_;
  if (errors_.size() < 64 && (errors_.empty() || errors_.back() != error)) errors_.push_back(error);
}

void State::look(Slot& slot) {
  const Clock::time_point start = Clock::now();
  shrink(slot.frame.data());
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
    objects_->look(slot.frame.data(), slot.ticket, slot.submitted, luma_.data(), small_.data(), cut ? nullptr : steady_->blocks());
  float depth_ms = 0;
  if (config_.depth_every == 0)
    look_aside(slot);
  else
    depth_ms = look_in_turn(slot, cut);
  slot.has_depth = steady_->has_depth();
  if (slot.has_depth) std::memcpy(slot.nearness.data(), steady_->nearness(), slot.nearness.size() * sizeof(float));
  slot.objects_ticket = slot.has_depth && objects_ != nullptr ? objects_->ticket() : 0;
  if (slot.objects_ticket != 0) {
    objects_->align(slot.nearness.data());
    slot.objects_time = objects_->time();
  }
  slot.depth_ticket = depth_ticket_;
  slot.depth_time = depth_time_;
  Lock lock(mutex_);
  timers_[SE_STAGE_LOOK].add(ms_between(start, Clock::now()) - depth_ms);
  const float left = config_.deadline_ms - ms_between(slot.submitted, Clock::now());
  slot.plain_edges = config_.deadline_ms > 0 && (config_.cheaper & SE_CHEAPER_PLAIN_EDGES) != 0 && left < after_depth();
  if (slot.plain_edges) slot.flags |= SE_RESULT_CHEAPER;
}

float State::look_in_turn(Slot& slot, bool cut) {
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

void State::look_aside(Slot& slot) {
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

}  // namespace se
