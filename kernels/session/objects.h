// SPDX-License-Identifier: Apache-2.0
// Objects of a live picture: key frames offered to the caller, whose labels come when they come, and are carried along the
// motion from there. As in films, a frame is matched with its key frame and not with the frame before it, so that the
// rounding of motion to whole cells does not add up.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "secondeye/session.h"
#include "session/labels.h"

namespace se {

class LiveObjects {
 public:
  using Time = std::chrono::steady_clock::time_point;

  LiveObjects(const se_session_config& config, int32_t map_width, int32_t map_height);

  // ---- the first thread's ----

  // The next frame; at the map's size its brightness, its colours, and its motion to the frame before (SteadyDepth::blocks;
  // null: a shot begins). It is offered as a key frame when one is due.
  void look(const uint8_t* frame, uint64_t ticket, Time submitted, const uint8_t* luma, const uint8_t* small, const int32_t* blocks);
  // The key frame whose labels are known at the frame that was looked at last; 0: none.
  uint64_t ticket() const { return key_.alive ? key_.ticket : 0; }
  Time time() const { return key_.submitted; }
  // Puts the edges of that frame's nearness on its objects' borders.
  void align(float* nearness) { aligner_.align(nearness, labels_.data()); }

  // ---- any thread's ----

  int32_t wait_key(int32_t timeout_ms, const se_array& picture, uint64_t* ticket);
  int32_t set_labels(uint64_t ticket, const se_array* labels);
  void close(int32_t status);  // which every call gives from now on
  void count(uint64_t* offered, uint64_t* labelled);
  int64_t bytes() const;

 private:
  // The offer: none; to be had; with the caller; its labels have come.
  enum class Offer { NONE, READY, TAKEN, ANSWERED };
  // A key frame, and where each block of the frame that was looked at last lies in it: se_motion's.
  struct Track {
    bool alive = false;
    uint64_t ticket = 0;
    Time submitted;
    std::vector<uint8_t> luma;
    std::vector<int32_t> moves;
  };

  void adopt();
  void advance(Track& track, const int32_t* blocks);
  void follow(const uint8_t* luma, const uint8_t* small, const int32_t* blocks);

  const int32_t width_, height_, rows_, columns_, every_;
  LabelCarrier carrier_;
  EdgeAligner aligner_;
  Track key_, next_;  // whose labels are known; whose labels were asked for
  std::vector<uint16_t> key_labels_, labels_;
  std::vector<int32_t> parts_, spare_;
  int32_t since_ = 0;
  bool due_ = true;
  float lost_ = 0;  // share of the frame that is not known

  std::vector<uint8_t> picture_;  // the caller's while the offer is TAKEN, else the first thread's
  std::vector<uint16_t> inbox_;   // likewise
  bool has_labels_ = false;       // likewise
  std::mutex inbox_mutex_, mutex_;  // taken in this order
  std::condition_variable ready_;
  Offer offer_ = Offer::NONE;
  uint64_t offered_ticket_ = 0, offered_ = 0, labelled_ = 0;
  int32_t closed_ = SE_OK;
};

}  // namespace se
