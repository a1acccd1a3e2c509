// SPDX-License-Identifier: Apache-2.0
#include "session/picture.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "core/check.h"

namespace se {

namespace {

se_exec exec_of(const se_session_config& config, void* stream) {
  se_exec exec{};
  exec.device = config.device;
  exec.isa = config.isa;
  exec.threads = config.threads;
  exec.stream = stream;
  return exec;
}

void need(int32_t status, const char* what) {
  if (status != SE_OK) throw std::runtime_error(std::string(what) + ": " + se_status_string(status));
}

}  // namespace

PictureMaker::PictureMaker(const se_session_config& config, int32_t map_width, int32_t map_height)
    : config_(config), apart_(apart(config)), gpu_(current_gpu(config.device)),
      canvas_(config.device, config.width, config.height, config.channels, map_width, map_height, config.widen),
      small_x_(config.device, area_axis(config.width, map_width)), small_y_(config.device, area_axis(config.height, map_height)),
      small_host_(config.device, static_cast<size_t>(3) * map_width * map_height), up_(config.device), look_(config.device),
      work_(config.device) {
  if (apart_) {
    small_ = DeviceMemory(config.device, small_host_.size());
    nearness_ = DeviceMemory(config.device, sizeof(float) * map_width * map_height);
  }
  map_ = packed(nearness_.data(), map_height, map_width, 1, SE_FLOAT32, 4);
  bytes_ = canvas_.bytes() + static_cast<int64_t>(small_host_.size() + small_.size() + nearness_.size()) + small_x_.bytes() + small_y_.bytes();
  for (Lane* lane : {&up_, &look_, &work_}) need(lane->open(), "streams");
}

std::unique_ptr<PictureMaker::Place> PictureMaker::place(uint8_t* frame, uint8_t* out) const {
  auto made = std::make_unique<Place>();
  const int32_t height = config_.height, width = config_.width, channels = config_.channels;
  const size_t pixels = static_cast<size_t>(width) * height;
  if (apart_) {
    made->frame_ = DeviceMemory(config_.device, pixels * channels);
    made->out_ = DeviceMemory(config_.device, 2 * pixels * channels);  // the most that a layout needs
  }
  made->plane_ = DeviceMemory(config_.device, pixels * sizeof(float));
  made->frame = packed(apart_ ? made->frame_.data() : frame, height, width, channels, SE_UINT8, 1);
  made->plane = packed(made->plane_.data(), height, width, 1, SE_FLOAT32, 4);
  made->out_begin_ = apart_ ? made->out_.data() : out;
  need(made->up_.open(config_.device), "events");
  return made;
}

se_exec PictureMaker::exec_on(void* stream) const { return exec_of(config_, stream); }

int32_t PictureMaker::bring(Place& place, const uint8_t* frame) {
  if (!apart_) return SE_OK;
  SE_TRY(up_.up(place.frame.data, frame, place.frame_.size()));
  return place.up_.set(up_.stream());
}

int32_t PictureMaker::bring(Place& place, const se_array& frame, void* stream) {
  SE_TRY(place.up_.follow(stream));
  const se_exec exec = exec_on(stream);
  if (config_.nv12 != 0)
    SE_TRY(read_nv12(exec, config_, frame, place.frame));
  else
    SE_TRY(se_pack(&exec, SE_PACK_ROWS, &frame, &frame, &place.frame));  // a copy
  return place.up_.set(stream);
}

int32_t PictureMaker::shrink(Place& place, const uint8_t** small) {
  SE_TRY(place.up_.follow(look_.stream()));
  const se_exec exec = looking();
  se_array from = place.frame;
  from.channels = 3;
  *small = small_host_.data();
  const se_array to = packed(apart_ ? small_.data() : small_host_.data(), map_.height, map_.width, 3, SE_UINT8, 1);
  SE_TRY(se_resample(&exec, &from, &small_x_.view, &small_y_.view, &to));
  if (!apart_) return SE_OK;
  SE_TRY(look_.down(small_host_.data(), small_.data(), small_.size()));
  return look_.finish();
}

int32_t PictureMaker::record(Place& place, const se_array& nearness, void* stream) {
  const Place::Key& key = place.key_;
  const se_exec exec = exec_on(stream);
  const se_array* plane = key.deep != 0 ? &place.plane : nullptr;
  if (plane != nullptr) {
    SE_TRY(canvas_.plane(exec, nearness, place.frame, key.plain_edges != 0, *plane));
    if (key.background != nullptr) SE_TRY(canvas_.follow(exec, place.frame, *plane, *key.background, key.since));
  }
  SE_TRY(canvas_.views(exec, key.params, place.frame, plane, place.extras_));
  warped_ = Clock::now();
  int32_t height, width, channels;
  canvas_.shape(key.params.layout, &height, &width, &channels);
  return canvas_.pack(exec, key.params, place.frame, plane, packed(place.out_begin_, height, width, channels, SE_UINT8, 1));
}

int32_t PictureMaker::make(Place& place, const float* nearness, bool plain_edges, const se_session_params& params, const Extras& extras,
                           const Background::Since& since, uint8_t* to, se_array* picture, Clock::time_point* warped) {
  SE_TRY(place.up_.follow(work_.stream()));
  const bool deep = nearness != nullptr;
  se_array map = map_;
  if (!apart_) map.data = const_cast<float*>(nearness);
  if (apart_ && deep) SE_TRY(work_.up(nearness_.data(), nearness, nearness_.size()));
  Place::Key key;
  std::memset(&key, 0, sizeof key);  // compared byte by byte
  key.params = params;
  key.deep = deep ? 1 : 0;
  key.plain_edges = plain_edges ? 1 : 0;
  key.overlay = extras.overlay.get();
  key.mask = extras.mask.get();
  key.background = extras.background;
  key.since.before = since.before;
  key.since.dx = since.dx;
  key.since.dy = since.dy;
  const Place::Key& old = place.key_;
  const bool same = place.recorded_ && std::memcmp(&key, &old, sizeof key) == 0;
  const bool alike = same_launches(key.params, old.params) && key.deep == old.deep && key.plain_edges == old.plain_edges &&
                     (key.overlay == nullptr) == (old.overlay == nullptr) && (key.mask == nullptr) == (old.mask == nullptr) &&
                     (key.background == nullptr) == (old.background == nullptr);
  std::memcpy(&place.key_, &key, sizeof key);
  place.extras_ = extras;  // what no frame of any slot uses any more goes here
  if (config_.device == SE_CPU) {
    SE_TRY(record(place, map, nullptr));
    *warped = warped_;
  } else {
    struct Job {
      PictureMaker* maker;
      Place* place;
      const se_array* map;
    } job{this, &place, &map};
    const auto queue = [](void* user, void* stream) {
      const Job& job = *static_cast<Job*>(user);
      return job.maker->record(*job.place, *job.map, stream);
    };
    place.recorded_ = false;
    SE_TRY(place.graph_.run(same, alike, work_.stream(), queue, &job));
    place.recorded_ = true;
  }
  int32_t height, width, channels;
  canvas_.shape(params.layout, &height, &width, &channels);
  *picture = packed(to != nullptr ? to : place.out_begin_, height, width, channels, SE_UINT8, 1);
  if (!apart_) return SE_OK;
  if (to != nullptr) SE_TRY(work_.down(to, place.out_begin_, static_cast<size_t>(height) * width * channels));
  SE_TRY(work_.finish());
  *warped = Clock::now();
  return SE_OK;
}

Renderer::Renderer(const se_session_config& config)
    : config_(config), apart_(apart(config)), canvas_(config.device, config.width, config.height, config.channels, 1, 1, config.widen),
      lane_(config.device) {
  need(lane_.open(), "streams");
  for (Mark* mark : {&theirs_, &marks_[0], &marks_[1]}) need(mark->open(config.device), "events");
  resize(config.height, config.width);
}

void Renderer::resize(int32_t height, int32_t width) {
  const bool own = height == config_.height && width == config_.width;
  const size_t bytes = static_cast<size_t>(width) * height * config_.channels;
  if (!own && (x_.view.outputs != width || y_.view.outputs != height)) {
    DeviceAxis x(config_.device, area_axis(config_.width, width)), y(config_.device, area_axis(config_.height, height));
    x_ = std::move(x);
    y_ = std::move(y);
  }
  if (!apart_) return;
  for (HostMemory& stage : stages_)
    if (stage.size() < bytes) stage = HostMemory(config_.device, bytes);
  if (!own && tile_.size() < bytes) tile_ = DeviceMemory(config_.device, bytes);
}

int32_t Renderer::follow(void* stream) {
  SE_TRY(theirs_.set(stream));
  return theirs_.follow(lane_.stream());
}

int32_t Renderer::render(const PictureMaker::Place& place, bool deep, const se_session_params& params, const Extras& extras, int32_t count,
                         const se_render_view* views, bool on_gpu) {
  const int32_t height = views[0].out.height, width = views[0].out.width, channels = config_.channels;
  const bool resized = height != config_.height || width != config_.width, staged = apart_ && !on_gpu;
  const se_exec exec = exec_of(config_, lane_.stream());
  const auto staging = [&](int32_t k) { return packed(stages_[k % 2].data(), height, width, channels, SE_UINT8, 1); };
  const auto fetch = [&](int32_t k) {  // view k, which has come down
    SE_TRY(marks_[k % 2].wait());
    copy_array(staging(k), views[k].out, kCopyThreads);
    return static_cast<int32_t>(SE_OK);
  };
  for (int32_t k = 0; k < count; ++k) {
    se_array view;
    const Eye at{views[k].eye, views[k].down, views[k].shift};
    SE_TRY(canvas_.view(exec, params, place.frame, deep ? &place.plane : nullptr, extras, at, &view));
    if (resized) {
      const se_array to = staged ? packed(tile_.data(), height, width, channels, SE_UINT8, 1) : views[k].out;
      SE_TRY(se_resample(&exec, &view, &x_.view, &y_.view, &to));
      view = to;
    } else if (on_gpu) {
      SE_TRY(se_pack(&exec, SE_PACK_ROWS, &view, &view, &views[k].out));  // a copy
    } else if (!apart_) {
      copy_array(view, views[k].out);
    }
    if (!staged) continue;
    SE_TRY(lane_.down(stages_[k % 2].data(), view.data, static_cast<size_t>(height) * width * channels));
    SE_TRY(marks_[k % 2].set(lane_.stream()));
    if (k > 0) SE_TRY(fetch(k - 1));  // while the GPU goes on
  }
  if (staged) SE_TRY(fetch(count - 1));
  return lane_.finish();
}

}  // namespace se
