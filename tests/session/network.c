/* SPDX-License-Identifier: Apache-2.0
 *
 * A network through the C interface (C99), for .ci/aarch64: prints a digest of its map, which every processor with fused
 * multiply-adds gives. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "secondeye/network.h"

enum { HEIGHT = 64, WIDTH = 96 };
static float picture[3][HEIGHT][WIDTH], map[HEIGHT][WIDTH];

int main(int argc, char **argv) {
  char message[200] = "";
  se_network *network = NULL;
  se_exec exec;
  se_array in, out;
  uint64_t digest = 1469598103934665603u;
  uint32_t state = 1;
  int32_t c, y, x, high, wide;
  size_t size = 0, k;
  const size_t most = 64u << 20;
  void *onnx = malloc(most);
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  CHECK(onnx != NULL && file != NULL);
  size = fread(onnx, 1, most, file);
  fclose(file);

  CHECK(se_network_open(NULL, 0, SE_ISA_AUTO, NULL, NULL, 0) == SE_ERROR_NULL_POINTER);
  CHECK(se_network_open("no network", 10, SE_ISA_AUTO, &network, message, sizeof message) == SE_ERROR_MODEL && network == NULL && message[0] != 0);
  CHECK(se_network_open(onnx, size / 2, SE_ISA_AUTO, &network, NULL, 0) == SE_ERROR_MODEL && network == NULL);
  CHECK(se_network_open(onnx, size, 99, &network, message, sizeof message) == SE_ERROR_MODEL && network == NULL);
  se_network_close(NULL);
  CHECK(se_network_open(onnx, size, SE_ISA_AUTO, &network, message, sizeof message) == SE_OK);
  free(onnx); /* its bytes are not needed any more */
  CHECK(strcmp(se_network_metadata(network, "kind"), "disparity") == 0 && se_network_metadata(network, "none") == NULL);
  CHECK(se_network_input(network, &high, &wide) == SE_OK && high == 0 && wide == 0);
  CHECK(se_network_shape(network, HEIGHT + 1, WIDTH, &high, &wide, &c) == SE_ERROR_BAD_SHAPE);
  CHECK(se_network_shape(network, HEIGHT, WIDTH, &high, &wide, &c) == SE_OK && high == HEIGHT && wide == WIDTH && c == 1);

  for (c = 0; c < 3; ++c)
    for (y = 0; y < HEIGHT; ++y)
      for (x = 0; x < WIDTH; ++x) {
        state = state * 1664525u + 1013904223u;
        picture[c][y][x] = (float)(((x / 9 + y / 7 + c) % 5) * 48 + (state >> 28)) / 256.0f;
      }
  memset(&exec, 0, sizeof exec);
  memset(&in, 0, sizeof in);
  in.data = picture;
  in.height = HEIGHT, in.width = WIDTH, in.channels = 3, in.dtype = SE_FLOAT32;
  in.stride_y = 4 * WIDTH, in.stride_x = 4, in.stride_c = 4 * WIDTH * HEIGHT;
  out = in;
  out.data = map;
  out.channels = 1, out.stride_c = 4;
  CHECK(se_network_run(network, &exec, &in, &out) == SE_OK);
  out.height = HEIGHT / 2;
  CHECK(se_network_run(network, &exec, &in, &out) == SE_ERROR_BAD_SHAPE);
  out.height = HEIGHT, in.stride_c = 4;
  CHECK(se_network_run(network, &exec, &in, &out) != SE_OK);
  se_network_close(network);
  for (k = 0; k < sizeof map; ++k) digest = (digest ^ ((const unsigned char *)map)[k]) * 1099511628211u;
  printf("%016llx\n", (unsigned long long)digest);
  return 0;
}
