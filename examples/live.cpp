// SPDX-License-Identifier: Apache-2.0
// The same as live.c, in C++17, with depth by a function of one's own when no model is named:
//
//   c++ -std=c++17 live.cpp -o live $(pkg-config --cflags --libs secondeye)
//   ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgb24 - | ./live 640 360 [MODEL.onnx [LIBONNXRUNTIME]] | ffplay ...
#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <vector>
#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#endif

#include "secondeye/session.h"

namespace {

struct Destroy {
  void operator()(se_session* session) const { se_session_destroy(session); }
};
using Session = std::unique_ptr<se_session, Destroy>;

void check(int32_t status) {
  if (status != SE_OK) throw std::runtime_error(se_status_string(status));
}

// What is lower in the picture is nearer: the oldest guess of all.
int32_t lower_is_nearer(void*, const se_array*, const se_array* nearness) {
  for (int32_t y = 0; y < nearness->height; ++y)
    for (int32_t x = 0; x < nearness->width; ++x)
      static_cast<float*>(nearness->data)[y * nearness->width + x] = static_cast<float>(y);
  return 0;
}

void write(const se_array& picture) {
  for (int32_t y = 0; y < picture.height; ++y)
    std::cout.write(static_cast<const char*>(picture.data) + y * picture.stride_y, picture.stride_y);
  if (!std::cout.flush()) throw std::runtime_error("the output is closed");
}

void run(int width, int height, const char* model, const char* library) {
  se_session_config config;
  se_session_defaults(&config, width, height, 3);
  config.policy = SE_POLICY_EVERY;
  config.depth_every = 2;
  config.depth_model = model;
  config.onnxruntime = library;
  if (model == nullptr) {
    config.depth = lower_is_nearer;
    config.depth_width = 64;
    config.depth_height = 36;
  }
  se_session* made = nullptr;
  char message[512] = "";
  if (se_session_create(&config, &made, message, sizeof message) != SE_OK) throw std::runtime_error(message);
  const Session session(made);

  std::vector<char> memory(static_cast<size_t>(width) * height * 3);
  const se_array frame{memory.data(), height, width, 3, SE_UINT8, int64_t{3} * width, 3, 1};
  uint64_t waiting = 0;
  const auto fetch = [&](int32_t timeout_ms) {
    se_session_result result;
    const int32_t status = se_session_wait(session.get(), timeout_ms, &result);
    if (status == SE_ERROR_BUSY) return;
    check(status);
    write(result.picture);
    check(se_session_release(session.get(), result.ticket));
    --waiting;
  };
  while (std::cin.read(memory.data(), static_cast<std::streamsize>(memory.size()))) {
    int32_t status;
    while ((status = se_session_submit(session.get(), &frame, 0, 0, nullptr)) == SE_ERROR_BUSY) fetch(10);
    check(status);
    ++waiting;
  }
  while (waiting > 0) fetch(100);
}

}  // namespace

int main(int argc, char** argv) {
#if defined(_WIN32)
  _setmode(_fileno(stdin), _O_BINARY);
  _setmode(_fileno(stdout), _O_BINARY);
#endif
  if (argc < 3 || argc > 5) {
    std::cerr << "usage: live WIDTH HEIGHT [MODEL.onnx [LIBONNXRUNTIME]] < rgb24 > rgb24, twice as wide\n";
    return 2;
  }
  try {
    run(std::atoi(argv[1]), std::atoi(argv[2]), argc > 3 ? argv[3] : nullptr, argc > 4 ? argv[4] : nullptr);
  } catch (const std::exception& error) {
    std::cerr << "live: " << error.what() << "\n";
    return 1;
  }
}
