// SPDX-License-Identifier: Apache-2.0
#include "session/objects.h"

#include <algorithm>
#include <cstring>

#include "session/canvas.h"

namespace se {
namespace {

using Lock = std::unique_lock<std::mutex>;
constexpr float kLost = 0.2f;  // share of the picture that may become unknown before the next key frame

}  // namespace

LiveObjects::LiveObjects(const se_session_config& config, int32_t map_width, int32_t map_height)
    : width_(map_width), height_(map_height), rows_((map_height + 7) / 8), columns_((map_width + 7) / 8), every_(config.key_every),
      carrier_(map_width, map_height), aligner_(map_width, map_height) {
  const size_t n = static_cast<size_t>(width_) * height_, blocks = static_cast<size_t>(rows_) * columns_;
  for (Track* track : {&key_, &next_}) {
    track->luma.resize(n);
    track->moves.resize(3 * blocks);
  }
  for (std::vector<uint16_t>* labels : {&key_labels_, &labels_, &inbox_}) labels->resize(n);
  parts_.resize(n);
  spare_.resize(3 * blocks);
  picture_.resize(static_cast<size_t>(config.width) * config.height * config.channels);
}

int64_t LiveObjects::bytes() const {
  return static_cast<int64_t>(picture_.size() + labels_.size() * 12 + spare_.size() * 12) + carrier_.bytes() + aligner_.bytes();
}

void LiveObjects::look(const uint8_t* frame, uint64_t ticket, Time submitted, const uint8_t* luma, const uint8_t* small,
                       const int32_t* blocks) {
  Offer offer;
  {
    Lock lock(mutex_);
    offer = offer_;
  }
  if (blocks == nullptr) key_.alive = next_.alive = false;
  if (offer == Offer::ANSWERED) adopt();
  if (blocks != nullptr) follow(luma, small, blocks);
  due_ |= blocks == nullptr || ++since_ >= every_ || (key_.alive && lost_ > kLost);
  if (offer == Offer::TAKEN) return;
  {
    Lock lock(mutex_);
    if (offer_ != offer || (!due_ && offer == Offer::READY)) return;  // the caller has taken it since; or it still waits
    offer_ = Offer::NONE;  // one that nobody has fetched is given up for this one
  }
  if (!due_) return;
  std::memcpy(picture_.data(), frame, picture_.size());
  std::memcpy(next_.luma.data(), luma, next_.luma.size());
  std::fill(next_.moves.begin(), next_.moves.end(), 0);
  next_.alive = true;
  next_.ticket = ticket;
  next_.submitted = submitted;
  due_ = false;
  since_ = 0;
  {
    Lock lock(mutex_);
    offered_ticket_ = ticket;
    ++offered_;
    offer_ = Offer::READY;
  }
  ready_.notify_all();
}

// The labels that have come are those of the frame that was asked for, unless its shot is over.
void LiveObjects::adopt() {
  if (!next_.alive) return;
  std::swap(key_, next_);
  next_.alive = false;
  key_.alive = has_labels_;
  key_labels_.swap(inbox_);
}

void LiveObjects::follow(const uint8_t* luma, const uint8_t* small, const int32_t* blocks) {
  if (next_.alive) {
    advance(next_, blocks);
    carrier_.seek(luma, next_.luma.data(), next_.moves.data());
  }
  if (!key_.alive) return;
  advance(key_, blocks);
  carrier_.carry(luma, key_.luma.data(), key_labels_.data(), small, key_.moves.data(), parts_.data());
  int64_t unknown = 0;
  for (size_t k = 0; k < parts_.size(); ++k) {
    labels_[k] = static_cast<uint16_t>(std::max(parts_[k] - 1, 0));
    unknown += parts_[k] == 0 ? 1 : 0;
  }
  lost_ = static_cast<float>(unknown) / static_cast<float>(parts_.size());
}

// Each block is sought about where the motion so far leads.
void LiveObjects::advance(Track& track, const int32_t* blocks) {
  for (int32_t i = 0; i < rows_; ++i) {
    for (int32_t j = 0; j < columns_; ++j) {
      const int32_t k = 3 * (i * columns_ + j), y = std::min(8 * i + 4, height_ - 1), x = std::min(8 * j + 4, width_ - 1);
      const int32_t from_y = std::clamp(y + blocks[k], 0, height_ - 1), from_x = std::clamp(x + blocks[k + 1], 0, width_ - 1);
      const int32_t* before = &track.moves[3 * ((from_y >> 3) * columns_ + (from_x >> 3))];
      spare_[k] = std::clamp(from_y - y + before[0], -height_, height_);
      spare_[k + 1] = std::clamp(from_x - x + before[1], -width_, width_);
    }
  }
  spare_.swap(track.moves);
}

int32_t LiveObjects::wait_key(int32_t timeout_ms, const se_array& picture, uint64_t* ticket) {
  {
    Lock lock(mutex_);
    const auto over = [&] { return closed_ != SE_OK || offer_ == Offer::READY; };
    if (timeout_ms < 0)
      ready_.wait(lock, over);
    else if (timeout_ms > 0)
      ready_.wait_for(lock, std::chrono::milliseconds(timeout_ms), over);
    if (closed_ != SE_OK) return closed_;
    if (offer_ != Offer::READY) return SE_ERROR_BUSY;
    offer_ = Offer::TAKEN;
    *ticket = offered_ticket_;
  }
  copy_array(packed(picture_.data(), picture.height, picture.width, picture.channels, SE_UINT8, 1), picture);
  return SE_OK;
}

int32_t LiveObjects::set_labels(uint64_t ticket, const se_array* labels) {
  Lock one(inbox_mutex_);
  {
    Lock lock(mutex_);
    if (closed_ != SE_OK) return closed_;
    if (offer_ != Offer::TAKEN || ticket != offered_ticket_) return SE_ERROR_BAD_PARAMETER;
  }
  has_labels_ = labels != nullptr;
  if (labels != nullptr) {  // each cell its nearest
    for (int32_t y = 0; y < height_; ++y) {
      const int64_t row = (int64_t{2} * y + 1) * labels->height / (2 * height_);
      for (int32_t x = 0; x < width_; ++x) {
        const int64_t column = (int64_t{2} * x + 1) * labels->width / (2 * width_);
        const char* at = static_cast<const char*>(labels->data) + row * labels->stride_y + column * labels->stride_x;
        std::memcpy(&inbox_[static_cast<size_t>(y) * width_ + x], at, sizeof(uint16_t));
      }
    }
  }
  Lock lock(mutex_);
  labelled_ += labels != nullptr ? 1 : 0;
  offer_ = Offer::ANSWERED;
  return SE_OK;
}

void LiveObjects::close(int32_t status) {
  {
    Lock lock(mutex_);
    if (closed_ == SE_OK) closed_ = status;
  }
  ready_.notify_all();
}

void LiveObjects::count(uint64_t* offered, uint64_t* labelled) {
  Lock lock(mutex_);
  *offered = offered_;
  *labelled = labelled_;
}

}  // namespace se
