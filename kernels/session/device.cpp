// SPDX-License-Identifier: Apache-2.0
#include "session/device.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "core/check.h"

namespace se {

DeviceMaker::DeviceMaker(const se_session_config& config, int32_t map_width, int32_t map_height)
    : config_(config), gpu_(current_gpu(config.device)),
      canvas_(config.device, config.width, config.height, config.channels, map_width, map_height, config.widen),
      small_x_(config.device, area_axis(config.width, map_width)), small_y_(config.device, area_axis(config.height, map_height)),
      small_host_(config.device, static_cast<size_t>(3) * map_width * map_height), small_(config.device, small_host_.size()),
      nearness_(config.device, sizeof(float) * map_width * map_height), up_(config.device), look_(config.device), work_(config.device) {
  plane_ = canvas_.floats(config.height, config.width);
  map_ = packed(nearness_.data(), map_height, map_width, 1, SE_FLOAT32, 4);
  bytes_ = canvas_.bytes() + static_cast<int64_t>(2 * small_.size() + nearness_.size()) + small_x_.bytes() + small_y_.bytes();
  for (Lane* lane : {&up_, &look_, &work_})
    if (const int32_t status = lane->open(); status != SE_OK) throw std::runtime_error(std::string("streams: ") + se_status_string(status));
}

std::unique_ptr<DeviceMaker::Place> DeviceMaker::place() const {
  auto made = std::make_unique<Place>();
  const size_t bytes = static_cast<size_t>(config_.width) * config_.height * config_.channels;
  made->frame = DeviceMemory(config_.device, bytes);
  made->out = DeviceMemory(config_.device, 2 * bytes);  // the most that a layout needs
  if (const int32_t status = made->up_.open(config_.device); status != SE_OK)
    throw std::runtime_error(std::string("events: ") + se_status_string(status));
  return made;
}

se_exec DeviceMaker::exec_on(void* stream) const {
  se_exec exec{};
  exec.device = config_.device;
  exec.isa = config_.isa;
  exec.threads = config_.threads;
  exec.stream = stream;
  return exec;
}

int32_t DeviceMaker::bring(Place& place, const uint8_t* frame) {
  SE_TRY(up_.up(place.frame.data(), frame, place.frame.size()));
  return place.up_.set(up_.stream());
}

int32_t DeviceMaker::bring(Place& place, const se_array& frame, void* stream) {
  SE_TRY(place.up_.follow(stream));
  const se_exec exec = exec_on(stream);
  const se_array to = frame_of(place);
  if (config_.nv12 != 0) {
    se_array luma = frame, chroma = frame;
    luma.height = config_.height;
    chroma.data = static_cast<uint8_t*>(frame.data) + config_.height * frame.stride_y;
    chroma.height = (config_.height + 1) / 2;
    chroma.width = config_.width / 2;
    chroma.channels = 2;
    chroma.stride_x = 2;
    SE_TRY(se_nv12(&exec, config_.standard, config_.full_range, &luma, &chroma, &to));
  } else {
    SE_TRY(se_pack(&exec, SE_PACK_ROWS, &frame, &frame, &to));  // a copy
  }
  return place.up_.set(stream);
}

int32_t DeviceMaker::shrink(Place& place, const uint8_t** small) {
  SE_TRY(place.up_.follow(look_.stream()));
  const se_exec exec = looking();
  se_array from = frame_of(place);
  from.channels = 3;
  const se_array to = packed(small_.data(), map_.height, map_.width, 3, SE_UINT8, 1);
  SE_TRY(se_resample(&exec, &from, &small_x_.view, &small_y_.view, &to));
  SE_TRY(look_.down(small_host_.data(), small_.data(), small_.size()));
  *small = small_host_.data();
  return look_.finish();
}

int32_t DeviceMaker::record(Place& place, void* stream) {
  const Place::Key& key = place.key_;
  int32_t height, width, channels;
  canvas_.shape(key.params.layout, &height, &width, &channels);
  return canvas_.frame(exec_on(stream), key.params, frame_of(place), key.deep != 0 ? &map_ : nullptr, key.plain_edges != 0, plane_,
                       packed(place.out.data(), height, width, channels, SE_UINT8, 1));
}

int32_t DeviceMaker::make(Place& place, const float* nearness, bool plain_edges, const se_session_params& params, uint8_t* to,
                          se_array* picture) {
  SE_TRY(place.up_.follow(work_.stream()));
  if (nearness != nullptr) SE_TRY(work_.up(nearness_.data(), nearness, nearness_.size()));
  Place::Key key;
  std::memset(&key, 0, sizeof key);  // compared byte by byte
  key.params = params;
  key.deep = nearness != nullptr ? 1 : 0;
  key.plain_edges = plain_edges ? 1 : 0;
  const bool same = place.recorded_ && std::memcmp(&key, &place.key_, sizeof key) == 0;
  const bool alike = same_launches(key.params, place.key_.params) && key.deep == place.key_.deep && key.plain_edges == place.key_.plain_edges;
  place.key_ = key;
  if (config_.device == SE_CPU) {
    SE_TRY(record(place, nullptr));
  } else {
    struct Job {
      DeviceMaker* maker;
      Place* place;
    } job{this, &place};
    const auto queue = [](void* user, void* stream) {
      const Job& job = *static_cast<Job*>(user);
      return job.maker->record(*job.place, stream);
    };
    place.recorded_ = false;
    SE_TRY(place.graph_.run(same, alike, work_.stream(), queue, &job));
    place.recorded_ = true;
  }
  int32_t height, width, channels;
  canvas_.shape(params.layout, &height, &width, &channels);
  *picture = packed(to != nullptr ? to : place.out.data(), height, width, channels, SE_UINT8, 1);
  if (to != nullptr) SE_TRY(work_.down(to, place.out.data(), static_cast<size_t>(height) * width * channels));
  return work_.finish();
}

}  // namespace se
