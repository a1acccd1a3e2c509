// SPDX-License-Identifier: Apache-2.0
// What the caller's calls and the second thread do with a session's frames; look.cpp has the others.
#include "session/state.h"

#include <algorithm>

#include "core/check.h"

namespace se {

State::State(const se_session_config& config)
    : config_(config),
      may_go_on_(config.depth_every == 0 ||
                 ((config.cheaper & SE_CHEAPER_NO_DEPTH) != 0 && (newest_wins() || config.deadline_ms > 0))),
      params_(config.params) {
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
    settings.device = config.device;
    settings.gpu = current_gpu(config.device);
    network_ = DepthNetwork::open(settings);
    map_width = network_->width();
    map_height = network_->height();
  }
  map_width_ = map_width;
  map_height_ = map_height;
  steady_ = std::make_unique<SteadyDepth>(map_width, map_height, config.steady);
  maker_ = std::make_unique<PictureMaker>(config, map_width, map_height);
  const size_t cells = static_cast<size_t>(map_width) * map_height;
  const size_t pixels = static_cast<size_t>(config.width) * config.height;
  luma_.resize(cells);
  depth_.resize(cells);
  side_luma_.resize(cells);
  if (may_go_on_ && network_ == nullptr) side_frame_.resize(pixels * config.channels);
  slots_.resize(static_cast<size_t>(config.slots) + 1);
  for (Slot& s : slots_) {
    s.frame = HostMemory(config.device, pixels * config.channels);
    s.out = HostMemory(config.device, 2 * s.frame.size());  // the most that a layout needs
    s.nearness = HostMemory(config.device, cells * sizeof(float));
    s.place = maker_->place(s.frame.data(), s.out.data());
    if (config.remember != 0) s.background = Background(config.device, config.width, config.height, config.channels);
  }
  if (config.remember != 0) pan_ = std::make_unique<PanFinder>(config.width, config.height, config.channels);
  if (config.key_every > 0) objects_ = std::make_unique<LiveObjects>(config, map_width, map_height);
  const Slot& one = slots_[0];
  const size_t each = one.frame.size() + one.out.size() + one.nearness.size() + static_cast<size_t>(one.place->bytes() + one.background.bytes());
  memory_ = slots_.size() * each + cells * 6 + side_frame_.size() + static_cast<size_t>(steady_->bytes() + maker_->bytes()) +
            static_cast<size_t>((network_ != nullptr ? network_->bytes() : 0) + (objects_ != nullptr ? objects_->bytes() : 0) +
                                (pan_ != nullptr ? pan_->bytes() : 0));
}

int32_t State::submit(const se_array& frame, bool on_gpu, void* stream, int64_t timestamp, int32_t timeout_ms, uint64_t* ticket) {
  Slot* slot = nullptr;
  {
    Lock lock(mutex_);
    const auto found = [&] { return closed_ || (slot = room()) != nullptr; };
    wait_for(room_, lock, timeout_ms, found);
    // One that another call copies gives way as soon as it waits.
    if (slot == nullptr && newest_wins()) room_.wait(lock, [&] { return found() || !waiting(Owner::FILLING); });
    if (closed_) return ended_;
    if (slot == nullptr) {
      if (newest_wins()) ++dropped_;
      return SE_ERROR_BUSY;
    }
    slot->owner = Owner::FILLING;
  }
  std::lock_guard<std::mutex> order(submit_mutex_);  // of copies; not held while there is no room: each caller has a time of its own
  const int32_t status = bring(*slot, frame, on_gpu, stream);
  if (!on_gpu) (void)went_well(status);
  {
    Lock lock(mutex_);
    if (closed_) return ended_;
    if (status == SE_OK) {
      slot->ticket = ++submitted_;
      slot->timestamp = timestamp;
      slot->submitted = Clock::now();
      slot->flags = 0;
      slot->owner = Owner::QUEUED;
      if (ticket != nullptr) *ticket = slot->ticket;
    } else {
      slot->owner = Owner::FREE;  // its owner's stream, perhaps: the session lives on
    }
  }
  work_.notify_all();
  room_.notify_all();
  return status;
}

int32_t State::wait(int32_t timeout_ms, se_session_result* result) {
  Lock lock(mutex_);
  Slot* slot = nullptr;
  if (timeout_ms != 0) ++takers_;
  wait_for(ready_, lock, timeout_ms, [&] {
    return closed_ || (slot = next(Owner::OFFERED)) != nullptr || (slot = next(Owner::DONE)) != nullptr;
  });
  if (timeout_ms != 0) --takers_;
  if (closed_) return ended_;
  if (slot == nullptr) return SE_ERROR_BUSY;
  slot->owner = Owner::HELD;
  *result = {slot->ticket, slot->timestamp, slot->depth_ticket, slot->objects_ticket, slot->flags, slot->latency_ms, slot->picture};
  lock.unlock();
  room_.notify_all();
  return SE_OK;
}

int32_t State::release(uint64_t ticket) {
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

Slot* State::pin(const se_session_params* given, int64_t grown, se_session_params* params, Extras* extras, int32_t* status) {
  Lock lock(mutex_);
  memory_ += static_cast<uint64_t>(grown);
  *status = closed_ ? ended_ : (newest_ == nullptr ? SE_ERROR_BUSY : SE_OK);
  if (*status != SE_OK) return nullptr;
  Slot* slot = newest_;
  ++slot->pins;
  *extras = extras_;
  if (config_.remember != 0 && slot->has_depth) extras->background = &slot->background;
  *params = given != nullptr ? *given : params_;
  return slot;
}

void State::unpin(Slot& slot) {
  {
    Lock lock(mutex_);
    --slot.pins;
  }
  room_.notify_all();
}

int32_t State::render(const se_session_params* given, int32_t count, const se_render_view* views, bool on_gpu, void* stream,
                      uint64_t* ticket) {
  std::lock_guard<std::mutex> one(render_mutex_);  // of the renderer
  {
    Lock lock(mutex_);
    if (closed_) return ended_;
  }
  const OnGpu gpu(config_.device, maker_->gpu());
  if (!went_well(gpu.status())) return SE_ERROR_DEVICE_LOST;
  const int64_t before = renderer_ != nullptr ? renderer_->bytes() : 0;
  if (renderer_ == nullptr) renderer_ = std::make_unique<Renderer>(config_);
  renderer_->resize(views[0].out.height, views[0].out.width);
  if (on_gpu) SE_TRY(renderer_->follow(stream));  // its owner's, perhaps: the session lives on
  se_session_params params;
  Extras extras;
  int32_t status;
  Slot* slot = pin(given, renderer_->bytes() - before, &params, &extras, &status);
  if (slot == nullptr) return status;
  status = renderer_->render(*slot->place, slot->has_depth, params, extras, count, views, on_gpu);
  if (status == SE_OK && ticket != nullptr) *ticket = slot->ticket;
  unpin(*slot);
  if (status != SE_ERROR_CUDA) return status;
  (void)went_well(status);
  return SE_ERROR_DEVICE_LOST;
}

int32_t State::quilt(const se_session_params* given, const se_quilt& quilt, const se_array& out, bool on_gpu, void* stream, uint64_t* ticket) {
  std::array<se_render_view, 256> views;
  const int32_t count = quilt.columns * quilt.rows, height = out.height / quilt.rows, width = out.width / quilt.columns;
  for (int32_t k = 0; k < count; ++k) {
    const int32_t row = quilt.from_top != 0 ? k / quilt.columns : quilt.rows - 1 - k / quilt.columns, column = k % quilt.columns;
    const float share = count > 1 ? static_cast<float>(k) / static_cast<float>(count - 1) : 0.5f;
    views[k] = {quilt.first + share * (quilt.last - quilt.first), quilt.down, 0, out};
    views[k].out.height = height;
    views[k].out.width = width;
    views[k].out.data = static_cast<uint8_t*>(out.data) + int64_t{row} * height * out.stride_y + int64_t{column} * width * out.stride_x;
  }
  return render(given, count, views.data(), on_gpu, stream, ticket);
}

std::shared_ptr<const Overlay> State::make_overlay(const se_array& rgba, int32_t x, int32_t y, float disparity) const {
  const OnGpu gpu(config_.device, maker_->gpu());
  return std::make_shared<Overlay>(Overlay{Placed(config_.device, rgba), x, y, disparity});
}

std::shared_ptr<const FlatMask> State::make_mask(const se_array& cover, float disparity) const {
  const OnGpu gpu(config_.device, maker_->gpu());
  return std::make_shared<FlatMask>(FlatMask{Placed(config_.device, cover), disparity});
}

void State::end(int32_t status) {
  {
    Lock lock(mutex_);
    if (!closed_) ended_ = status;
    closed_ = true;
  }
  if (network_ != nullptr) network_->stop();
  if (objects_ != nullptr) objects_->close(status);
  for (std::condition_variable* c : {&room_, &work_, &looked_, &ready_, &side_}) c->notify_all();
}

bool State::went_well(int32_t status) {
  if (status == SE_OK) return true;
  end(status == SE_ERROR_CUDA ? SE_ERROR_DEVICE_LOST : status);
  return false;
}

bool State::ended(int32_t all_but, std::chrono::milliseconds limit) {
  Lock lock(mutex_);
  return gone_.wait_for(lock, limit, [&] { return threads_ == all_but; });
}

void State::stats(se_session_stats* to) {
  std::array<Timer, SE_STAGES> timers;
  {
    Lock lock(mutex_);
    *to = {submitted_, done_, dropped_, late_, cheaper_, depth_runs_, depth_failures_, 0, 0, memory_, {}};
    timers = timers_;
  }
  if (objects_ != nullptr) objects_->count(&to->keys_offered, &to->keys_labelled);
  for (int32_t k = 0; k < SE_STAGES; ++k) {
    const auto n = static_cast<int64_t>(std::min<uint64_t>(timers[k].count, timers[k].ring.size()));
    if (n == 0) continue;
    float* first = timers[k].ring.data();
    std::sort(first, first + n);
    const auto at = [&](double share) { return first[std::min(n - 1, static_cast<int64_t>(share * static_cast<double>(n)))]; };
    to->stages[k] = {at(0.5), at(0.9), at(0.99), first[n - 1], timers[k].count};
  }
}

const char* State::depth_error() {
  Lock lock(mutex_);
  return errors_.empty() ? "" : errors_.back().c_str();
}

void State::look_loop() {
  for (;;) {
    Slot* slot = nullptr;
    {
      Lock lock(mutex_);
      // Where the newest wins, frames give way before they are worked on: one that has been waits for the warp at most.
      work_.wait(lock, [&] {
        return closed_ || ((!newest_wins() || !waiting(Owner::LOOKED)) && (slot = next(Owner::QUEUED)) != nullptr);
      });
      if (closed_) return;
      slot->owner = Owner::LOOKING;
    }
    room_.notify_all();
    if (!look(*slot)) return;
    {
      Lock lock(mutex_);
      slot->owner = Owner::LOOKED;
    }
    looked_.notify_all();
  }
}

void State::warp_loop() {
  for (;;) {
    Slot* slot = nullptr;
    Extras extras;
    se_session_params params;
    {
      Lock lock(mutex_);
      looked_.wait(lock, [&] { return closed_ || (slot = next(Owner::LOOKED)) != nullptr; });
      if (closed_) return;
      slot->owner = Owner::WARPING;
      extras = extras_;
      params = params_;
    }
    if (newest_wins()) work_.notify_all();
    if (!show(*slot, params, extras)) return;
  }
}

// The newest finished slot is not used for anything else before this one is finished: its memory of the background is there.
bool State::show(Slot& slot, const se_session_params& params, Extras& extras) {
  const Clock::time_point start = Clock::now();
  Clock::time_point warped;
  Background::Since since{};
  if (config_.remember != 0 && slot.has_depth) {
    since = slot.background.follow(newest_ != nullptr ? &newest_->background : nullptr, slot.pan);
    extras.background = &slot.background;
  } else if (config_.remember != 0) {
    slot.background.forget(slot.pan);
  }
  const float* nearness = slot.has_depth ? slot.nearness.as<float>() : nullptr;
  uint8_t* to = config_.keep_on_gpu != 0 ? nullptr : slot.out.data();
  if (!went_well(maker_->make(*slot.place, nearness, slot.plain_edges, params, extras, since, to, &slot.picture, &warped))) return false;
  finish(slot, start, warped);
  return true;
}

Slot* State::room() {
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

Slot* State::next(Owner owner) {
  Slot* found = nullptr;
  for (Slot& s : slots_) {
    if (s.owner != owner) continue;
    if (found == nullptr) {
      found = &s;
      continue;
    }
    const bool later = s.ticket > found->ticket, replaces = newest_wins() && owner != Owner::OFFERED;
    if (replaces) drop(later ? *found : s);
    if (later == replaces) found = &s;
  }
  return found;
}

void State::copy(const se_array& frame, uint8_t* to) const {
  const se_array out = packed(to, config_.height, config_.width, config_.channels, SE_UINT8, 1);
  if (config_.nv12 != 0) {
    se_exec exec{};
    exec.threads = config_.threads;
    (void)read_nv12(exec, config_, frame, out);
    return;
  }
  copy_array(frame, out, config_.device == SE_CPU ? 1 : kCopyThreads);
}

int32_t State::bring(Slot& slot, const se_array& frame, bool on_gpu, void* stream) {
  if (on_gpu) return maker_->bring(*slot.place, frame, stream);
  SE_TRY(PictureMaker::settle(*slot.place));
  copy(frame, slot.frame.data());
  return maker_->bring(*slot.place, slot.frame.data());
}

void State::finish(Slot& slot, Clock::time_point start, Clock::time_point warped) {
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
    if (slot.objects_ticket != 0) timers_[SE_STAGE_OBJECTS_AGE].add(ms_between(slot.objects_time, now));
    ++done_;
    const auto offered = std::count_if(slots_.begin(), slots_.end(), [](const Slot& s) { return s.owner == Owner::OFFERED; });
    slot.owner = takers_ > offered ? Owner::OFFERED : Owner::DONE;
    newest_ = &slot;
  }
  ready_.notify_all();
  room_.notify_all();
}

}  // namespace se
