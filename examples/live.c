/* SPDX-License-Identifier: Apache-2.0
 *
 * A film or a camera to side-by-side 3D, through pipes (C99):
 *
 *   cc -std=c99 live.c -o live $(pkg-config --cflags --libs secondeye)
 *   ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgb24 - | ./live 640 360 depth_builtin.onnx |
 *     ffplay -f rawvideo -pixel_format rgb24 -video_size 1280x360 -
 *
 * A camera: ffmpeg -f v4l2 -video_size 640x360 -i /dev/video0 in place of the film. The model lies in the Python package
 * (secondeye/runtime/assets). Other models may need ONNX Runtime, 1.11 or later: name its library as the last argument.
 */
#include <stdio.h>
#include <stdlib.h>
#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#endif

#include "secondeye/session.h"

static int write_picture(const se_array *picture) {
  const size_t bytes = (size_t)picture->width * (size_t)picture->channels;
  int y;
  for (y = 0; y < picture->height; ++y)
    if (fwrite((const char *)picture->data + y * picture->stride_y, 1, bytes, stdout) != bytes) return 1;
  return fflush(stdout);
}

/* Writes results until there is none within timeout_ms. */
static int32_t drain(se_session *session, int32_t timeout_ms, unsigned long *left) {
  se_session_result result;
  int32_t status = SE_OK;
  while (*left > 0 && (status = se_session_wait(session, timeout_ms, &result)) == SE_OK) {
    const int failed = write_picture(&result.picture);
    se_session_release(session, result.ticket);
    --*left;
    if (failed) return SE_ERROR_CLOSED;
  }
  return status == SE_ERROR_BUSY ? SE_OK : status;
}

int main(int argc, char **argv) {
  se_session_config config;
  se_session *session = NULL;
  char message[512] = "";
  unsigned long waiting = 0;
  int32_t status = SE_OK;
  uint8_t *memory;
  se_array frame;
  size_t bytes;
  if (argc != 4 && argc != 5) {
    fprintf(stderr, "usage: live WIDTH HEIGHT MODEL.onnx [LIBONNXRUNTIME] < rgb24 > rgb24, twice as wide\n");
    return 2;
  }
#if defined(_WIN32)
  _setmode(_fileno(stdin), _O_BINARY);
  _setmode(_fileno(stdout), _O_BINARY);
#endif
  se_session_defaults(&config, atoi(argv[1]), atoi(argv[2]), 3);
  config.policy = SE_POLICY_EVERY;
  config.depth_every = 2;
  config.depth_model = argv[3];
  config.onnxruntime = argc == 5 ? argv[4] : NULL;
  status = se_session_create(&config, &session, message, sizeof message);
  if (status != SE_OK) {
    fprintf(stderr, "live: %s\n", message);
    return 1;
  }
  bytes = (size_t)config.width * (size_t)config.height * 3;
  memory = malloc(bytes);
  frame.data = memory;
  frame.height = config.height;
  frame.width = config.width;
  frame.channels = 3;
  frame.dtype = SE_UINT8;
  frame.stride_y = (int64_t)config.width * 3;
  frame.stride_x = 3;
  frame.stride_c = 1;
  while (memory != NULL && status == SE_OK && fread(memory, 1, bytes, stdin) == bytes) {
    while ((status = se_session_submit(session, &frame, 0, 0, NULL)) == SE_ERROR_BUSY)
      if ((status = drain(session, 10, &waiting)) != SE_OK) break;
    if (status == SE_OK) {
      ++waiting;
      status = drain(session, 0, &waiting);
    }
  }
  while (status == SE_OK && waiting > 0) status = drain(session, 100, &waiting);
  if (status != SE_OK) fprintf(stderr, "live: %s\n", se_status_string(status));
  se_session_destroy(session);
  free(memory);
  return status == SE_OK ? 0 : 1;
}
