/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions through the C interface (C99), for .ci/library: run plainly it counts allocations and the scheduling's own
 * time, and under sanitizers it looks for races and stray accesses. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "secondeye/frame.h"
#include "secondeye/interop.h"
#include "secondeye/session.h"

static atomic_ulong allocations;

#if defined(COUNT_ALLOCATIONS)
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
void *malloc(size_t size) { atomic_fetch_add(&allocations, 1); return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { atomic_fetch_add(&allocations, 1); return __libc_calloc(count, size); }
void *realloc(void *memory, size_t size) { atomic_fetch_add(&allocations, 1); return __libc_realloc(memory, size); }
void *aligned_alloc(size_t alignment, size_t size) { atomic_fetch_add(&allocations, 1); return __libc_memalign(alignment, size); }
#endif

enum { HEIGHT = 90, WIDTH = 160, MAP_HEIGHT = 24, MAP_WIDTH = 40 };
static uint8_t pixels[HEIGHT][WIDTH][3];
static int32_t depth_fails;
static float depth_scale = 1;

static int32_t depth(void *user, const se_array *picture, const se_array *nearness) {
  int32_t y, x;
  (void)picture;
  ++*(atomic_int *)user;
  for (y = 0; y < nearness->height; ++y)
    for (x = 0; x < nearness->width; ++x) ((float *)nearness->data)[y * nearness->width + x] = depth_scale * (float)(y - 16 + (x > 20 ? 9 : 0));
  return depth_fails;
}

static atomic_int let_go;

static int32_t stuck(void *user, const se_array *picture, const se_array *nearness) {
  ++*(atomic_int *)user;
  while (!let_go) usleep(1000);
  ((float *)nearness->data)[0] = ((const uint8_t *)picture->data)[0]; /* both are to be there still */
  return 1;
}

/* Not rand_r, which Windows does not have. */
static unsigned any_number(unsigned *seed) {
  *seed = *seed * 1664525u + 1013904223u;
  return *seed >> 16;
}

static void released(void *user) { *(atomic_int *)user = -1; }

static se_array frame_of(void *data, int32_t height, int32_t width) {
  se_array a;
  a.data = data;
  a.height = height;
  a.width = width;
  a.channels = 3;
  a.dtype = SE_UINT8;
  a.stride_y = (int64_t)width * 3;
  a.stride_x = 3;
  a.stride_c = 1;
  return a;
}

static se_session *open_session(se_session_config *config, se_depth_fn fn, atomic_int *runs) {
  se_session *session = NULL;
  char message[256] = "";
  config->depth = fn;
  config->depth_user = runs;
  if (config->depth_width == 0) {
    config->depth_width = MAP_WIDTH;
    config->depth_height = MAP_HEIGHT;
  }
  if (se_session_create(config, &session, message, sizeof message) != SE_OK) {
    fprintf(stderr, "session: %s\n", message);
    exit(1);
  }
  return session;
}

static void scene(int32_t k) {
  int32_t y, x, c;
  for (y = 0; y < HEIGHT; ++y)
    for (x = 0; x < WIDTH; ++x)
      for (c = 0; c < 3; ++c) pixels[y][x][c] = (uint8_t)(40 * (((x + k) / 9 + y / 7) % 4) + 20 * c + 11 * ((x + k) % 5));
}

static void no_allocations_per_frame(void) {
#if defined(COUNT_ALLOCATIONS)
  enum { FRAMES = 400 };
#else
  enum { FRAMES = 120 }; /* every combination of the settings below, once */
#endif
  atomic_int runs = 0;
  se_session_config config;
  se_session *session;
  se_session_result result;
  se_session_params params;
  se_session_stats stats;
  se_render_view view;
  static uint8_t out[HEIGHT][WIDTH][3], many[2 * 60][3 * 100][3], cover[HEIGHT][WIDTH];
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH), tiles = frame_of(many, 2 * 60, 3 * 100);
  const se_array flat = {cover, HEIGHT, WIDTH, 1, SE_UINT8, WIDTH, 1, 1};
  const se_quilt quilt = {3, 2, -1, 1, 0, 0};
  unsigned long before = 0;
  int32_t k;
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  config.policy = SE_POLICY_EVERY;
  config.depth_every = 2;
  config.threads = 2;
  config.remember = 1;
  session = open_session(&config, depth, &runs);
  CHECK(se_session_set_mask(session, &flat, 1) == SE_OK);
  view.eye = 0.5f;
  view.down = 0.25f;
  view.shift = 0;
  view.out = frame_of(out, HEIGHT, WIDTH);
  for (k = 0; k < FRAMES; ++k) {
    if (k == 100) before = allocations;
    scene(k);
    CHECK(se_session_get_params(session, &params) == SE_OK);
    params.strength = (float)(k % 8);
    params.layout = k % 10;
    params.both = k % 2;
    params.roll = (float)(k % 3) * 10;
    CHECK(se_session_set_params(session, &params) == SE_OK);
    CHECK(se_session_submit(session, &frame, k, 1000, NULL) == SE_OK);
    CHECK(se_session_wait(session, 5000, &result) == SE_OK);
    CHECK(result.timestamp == k && result.ticket == (uint64_t)k + 1);
    CHECK(se_session_render(session, NULL, 1, &view, NULL) == SE_OK);
    CHECK(se_session_render_quilt(session, NULL, &quilt, &tiles, NULL) == SE_OK);
    CHECK(se_session_release(session, result.ticket) == SE_OK);
    CHECK(se_session_release(session, result.ticket) == SE_ERROR_BAD_PARAMETER);
  }
  before = allocations - before;
#if defined(COUNT_ALLOCATIONS)
  printf("allocations in %d frames: %lu\n", FRAMES - 100, before);
#endif
  CHECK(before == 0);
  CHECK(se_session_get_stats(session, &stats) == SE_OK);
  CHECK(stats.ready == FRAMES && stats.dropped == 0 && stats.depth_runs == (uint64_t)runs && runs >= FRAMES / 2);
  se_session_destroy(session);
}

/* What is left when the stages have next to nothing to do. */
static void overhead(void) {
  atomic_int runs = 0;
  se_session_config config;
  se_session *session;
  se_session_result result;
  se_session_stats stats;
  static uint8_t tiny[16][16][3];
  const se_array frame = frame_of(tiny, 16, 16);
  int32_t k;
  se_session_defaults(&config, 16, 16, 3);
  config.policy = SE_POLICY_EVERY;
  config.depth_every = 1000;
  config.widen = 0;
  config.threads = 1;
  config.depth_width = config.depth_height = 8;
  config.params.layout = SE_LAYOUT_RIGHT;
  config.params.strength = 0;
  session = open_session(&config, depth, &runs);
  for (k = 0; k < 5000; ++k) {
    CHECK(se_session_submit(session, &frame, k, 1000, NULL) == SE_OK);
    CHECK(se_session_wait(session, 5000, &result) == SE_OK);
    CHECK(se_session_release(session, result.ticket) == SE_OK);
  }
  CHECK(se_session_get_stats(session, &stats) == SE_OK);
  printf("submit to ready, 16 x 16: p50 %.1f us, p99 %.1f us (of which stages: %.1f us)\n",
         stats.stages[SE_STAGE_TOTAL].p50_ms * 1e3, stats.stages[SE_STAGE_TOTAL].p99_ms * 1e3,
         (stats.stages[SE_STAGE_LOOK].p50_ms + stats.stages[SE_STAGE_WARP].p50_ms + stats.stages[SE_STAGE_PACK].p50_ms) * 1e3);
  se_session_destroy(session);
}

/* A key frame is offered, answered, and its labels put depth's edges on borders from the next frame on. */
static void objects(void) {
  enum { OTHER = 31 };
  atomic_int runs = 0;
  se_session_config config;
  se_session *session;
  se_session_result result;
  se_session_stats stats;
  static uint8_t key[HEIGHT][WIDTH][3], small[8][8][3];
  static uint16_t labels[OTHER][OTHER];
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH), picture = frame_of(key, HEIGHT, WIDTH), tiny = frame_of(small, 8, 8);
  se_array map = {labels, OTHER, OTHER, 1, SE_UINT16, 2 * OTHER, 2, 2};
  uint64_t ticket = 0, first;
  unsigned long before = 0;
  int32_t k, y, x;
  for (y = 0; y < OTHER; ++y)
    for (x = 0; x < OTHER; ++x) labels[y][x] = (uint16_t)(x > OTHER / 2 ? 65535 : 1);
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  session = open_session(&config, depth, &runs);
  CHECK(se_session_wait_key(session, 0, &picture, &ticket) == SE_ERROR_BAD_PARAMETER); /* not asked for */
  CHECK(se_session_set_labels(session, 1, &map) == SE_ERROR_BAD_PARAMETER);
  se_session_destroy(session);
  config.key_every = 1001;
  config.depth = depth;
  CHECK(se_session_create(&config, &session, NULL, 0) == SE_ERROR_BAD_PARAMETER && session == NULL);
  config.key_every = 3;
  config.policy = SE_POLICY_EVERY;
  config.threads = 2;
  session = open_session(&config, depth, &runs);
  CHECK(se_session_wait_key(session, 0, &picture, &ticket) == SE_ERROR_BUSY);
  CHECK(se_session_wait_key(session, 1, &picture, &ticket) == SE_ERROR_BUSY);
  CHECK(se_session_wait_key(session, 0, NULL, &ticket) == SE_ERROR_NULL_POINTER);
  CHECK(se_session_wait_key(session, 0, &picture, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_session_wait_key(session, 0, &tiny, &ticket) == SE_ERROR_BAD_SHAPE);
  CHECK(se_session_set_labels(session, 1, &map) == SE_ERROR_BAD_PARAMETER); /* none was given */
  for (k = 0; k < 200; ++k) {
    if (k == 50) before = allocations;
    scene(k / 4);
    CHECK(se_session_submit(session, &frame, k, 1000, NULL) == SE_OK);
    CHECK(se_session_wait(session, 5000, &result) == SE_OK);
    CHECK(se_session_release(session, result.ticket) == SE_OK);
    CHECK((result.objects_ticket == 0) == (k == 0) && result.objects_ticket < result.ticket);
    if (se_session_wait_key(session, 0, &picture, &ticket) != SE_OK) continue;
    CHECK(ticket == result.ticket && memcmp(key, pixels, sizeof key) == 0);
    CHECK(se_session_wait_key(session, 0, &picture, &first) == SE_ERROR_BUSY); /* until it is answered */
    CHECK(se_session_set_labels(session, ticket + 1, &map) == SE_ERROR_BAD_PARAMETER);
    map.width = 0;
    CHECK(se_session_set_labels(session, ticket, &map) == SE_ERROR_BAD_SHAPE);
    map.width = 20000;
    CHECK(se_session_set_labels(session, ticket, &map) == SE_ERROR_BAD_SHAPE);
    map.width = OTHER;
    map.dtype = SE_UINT8;
    CHECK(se_session_set_labels(session, ticket, &map) == SE_ERROR_BAD_DTYPE);
    map.dtype = SE_UINT16;
    CHECK(se_session_set_labels(session, ticket, &map) == SE_OK);
    CHECK(se_session_set_labels(session, ticket, &map) == SE_ERROR_BAD_PARAMETER); /* it has been answered */
  }
  before = allocations - before;
  printf("allocations in 150 frames with objects: %lu\n", before);
  CHECK(before == 0);
  CHECK(se_session_get_stats(session, &stats) == SE_OK);
  CHECK(stats.keys_offered >= 60 && stats.keys_labelled == stats.keys_offered && stats.stages[SE_STAGE_OBJECTS_AGE].count == 199);
  /* Without labels there are none from the next frame on. */
  for (k = 0; k < 4 && se_session_wait_key(session, 0, &picture, &ticket) != SE_OK; ++k) {
    CHECK(se_session_submit(session, &frame, k, 1000, NULL) == SE_OK && se_session_wait(session, 5000, &result) == SE_OK);
    CHECK(se_session_release(session, result.ticket) == SE_OK);
  }
  CHECK(se_session_set_labels(session, ticket, NULL) == SE_OK);
  CHECK(se_session_submit(session, &frame, k, 1000, NULL) == SE_OK && se_session_wait(session, 5000, &result) == SE_OK);
  CHECK(result.objects_ticket == 0);
  se_session_close(session);
  CHECK(se_session_wait_key(session, -1, &picture, &ticket) == SE_ERROR_CLOSED);
  CHECK(se_session_set_labels(session, ticket, &map) == SE_ERROR_CLOSED);
  se_session_destroy(session);
}

/* What sessions do with labels, for maps of one's own: what does not fit is refused. */
static void label_maps(void) {
  static uint8_t now[16][24], small[16][24][3];
  static uint16_t labels[16][24];
  static int32_t moves[2][3][3], parts[16][24];
  static float values[16][24];
  const se_array n = {now, 16, 24, 1, SE_UINT8, 24, 1, 1}, s = frame_of(small, 16, 24);
  const se_array v = {values, 16, 24, 1, SE_FLOAT32, 96, 4, 4}, p = {parts, 16, 24, 1, SE_INT32, 96, 4, 4};
  const se_array m = {moves, 2, 3, 3, SE_INT32, 36, 12, 4};
  se_array l = {labels, 16, 24, 1, SE_UINT16, 48, 2, 2};
  int32_t y, x;
  for (y = 0; y < 16; ++y)
    for (x = 0; x < 24; ++x) {
      labels[y][x] = (uint16_t)(x < 12 ? 1 : 2);
      values[y][x] = x < 12 ? 0 : x == 12 ? 0.5f : 1;
    }
  CHECK(se_align_edges(&v, &l) == SE_OK && values[7][11] == 0 && values[7][12] == 1);
  CHECK(se_align_edges(NULL, &l) == SE_ERROR_NULL_POINTER && se_align_edges(&v, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_align_edges(&n, &l) == SE_ERROR_BAD_DTYPE && se_align_edges(&v, &n) == SE_ERROR_BAD_DTYPE);
  moves[0][0][0] = 2000000000;
  moves[1][2][1] = -2000000000;
  CHECK(se_carry_labels(&n, &n, &l, &s, &m, &p) == SE_OK && parts[15][0] == 2 && parts[0][23] == 3);
  CHECK(se_carry_labels(&n, &n, &l, &s, &m, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_carry_labels(&n, &n, &l, &n, &m, &p) == SE_ERROR_BAD_SHAPE);
  CHECK(se_carry_labels(&n, &n, &l, &s, &p, &p) == SE_ERROR_BAD_SHAPE);
  {
    const se_array over = {parts, 16, 24, 1, SE_UINT16, 48, 2, 2}, onto = {values, 16, 24, 1, SE_UINT16, 48, 2, 2};
    CHECK(se_align_edges(&v, &onto) == SE_ERROR_BAD_ALIAS && se_carry_labels(&n, &n, &over, &s, &m, &p) == SE_ERROR_BAD_ALIAS);
  }
  l.height = 15;
  CHECK(se_align_edges(&v, &l) == SE_ERROR_BAD_SHAPE && se_carry_labels(&n, &n, &l, &s, &m, &p) == SE_ERROR_BAD_SHAPE);
  l.height = 16;
  l.stride_x = 4;
  CHECK(se_align_edges(&v, &l) == SE_ERROR_BAD_STRIDE && se_carry_labels(&n, &n, &l, &s, &m, &p) == SE_ERROR_BAD_STRIDE);
}

struct crowd {
  se_session *session;
  atomic_int stop, ready;
};

static void *submits(void *argument) {
  struct crowd *crowd = argument;
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH);
  while (!crowd->stop) {
    const int32_t status = se_session_submit(crowd->session, &frame, 7, 5, NULL);
    CHECK(status == SE_OK || status == SE_ERROR_BUSY || status == SE_ERROR_CLOSED);
  }
  return NULL;
}

static void *takes(void *argument) {
  struct crowd *crowd = argument;
  unsigned seed = 5;
  se_session_result result;
  while (!crowd->stop) {
    const int32_t status = se_session_wait(crowd->session, 20, &result);
    CHECK(status == SE_OK || status == SE_ERROR_BUSY || status == SE_ERROR_CLOSED);
    if (status != SE_OK) continue;
    ++crowd->ready;
    if (any_number(&seed) % 4 == 0) usleep((useconds_t)(any_number(&seed) % 8000));
    CHECK(((const uint8_t *)result.picture.data)[0] != 255);
    CHECK(se_session_release(crowd->session, result.ticket) == SE_OK);
  }
  return NULL;
}

static void *changes(void *argument) {
  struct crowd *crowd = argument;
  static uint8_t out[HEIGHT][WIDTH][3], cover[HEIGHT][WIDTH];
  const se_array flat = {cover, HEIGHT, WIDTH, 1, SE_UINT8, WIDTH, 1, 1};
  uint8_t text[4][8][4];
  se_session_params params;
  se_session_stats stats;
  se_render_view view;
  int32_t k = 0, status;
  se_array overlay = frame_of(text, 4, 8);
  overlay.channels = 4;
  overlay.stride_y = 32;
  overlay.stride_x = 4;
  memset(text, 130, sizeof text);
  memset(cover[HEIGHT / 2], 1, WIDTH);
  view.out = frame_of(out, HEIGHT, WIDTH);
  view.shift = 0;
  while (!crowd->stop) {
    ++k;
    CHECK(se_session_get_params(crowd->session, &params) == SE_OK);
    params.strength = (float)(k % 20);
    params.layout = k % 10;
    CHECK(se_session_set_params(crowd->session, &params) == SE_OK);
    CHECK(se_session_set_overlay(crowd->session, k % 3 != 0 ? &overlay : NULL, k % 200 - 20, k % 90, 3) == SE_OK);
    CHECK(se_session_set_mask(crowd->session, k % 4 != 0 ? &flat : NULL, (float)(k % 9)) == SE_OK);
    view.eye = (float)(k % 5 - 2);
    view.down = (float)(k % 3 - 1);
    status = se_session_render(crowd->session, NULL, 1, &view, NULL);
    CHECK(status == SE_OK || status == SE_ERROR_BUSY || status == SE_ERROR_CLOSED);
    CHECK(se_session_get_stats(crowd->session, &stats) == SE_OK);
  }
  return NULL;
}

/* A segmenter that is now quick and now slow, and that answers for what is over. */
static void *tells(void *argument) {
  struct crowd *crowd = argument;
  static uint8_t key[HEIGHT][WIDTH][3];
  static uint16_t labels[24][40];
  const se_array picture = frame_of(key, HEIGHT, WIDTH), map = {labels, 24, 40, 1, SE_UINT16, 80, 2, 2};
  unsigned seed = 9;
  uint64_t ticket = 0;
  while (!crowd->stop) {
    int32_t status = se_session_wait_key(crowd->session, 20, &picture, &ticket);
    CHECK(status == SE_OK || status == SE_ERROR_BUSY || status == SE_ERROR_CLOSED);
    if (any_number(&seed) % 3 == 0) usleep((useconds_t)(any_number(&seed) % 20000));
    labels[any_number(&seed) % 24][any_number(&seed) % 40] = (uint16_t)any_number(&seed);
    status = se_session_set_labels(crowd->session, ticket, any_number(&seed) % 5 != 0 ? &map : NULL);
    CHECK(status == SE_OK || status == SE_ERROR_BAD_PARAMETER || status == SE_ERROR_CLOSED);
  }
  return NULL;
}

static void crowds(int32_t isa, int32_t policy, int32_t depth_every, int32_t milliseconds) {
  void *(*const works[6])(void *) = {submits, submits, takes, takes, changes, tells};
  pthread_t threads[6];
  atomic_int runs = 0;
  se_session_config config;
  struct crowd crowd;
  int k;
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  config.isa = isa;
  config.remember = isa == SE_ISA_BLOCKS;
  config.policy = policy;
  config.depth_every = depth_every;
  config.deadline_ms = 4;
  config.key_every = 5;
  config.cheaper = SE_CHEAPER_NO_DEPTH | SE_CHEAPER_PLAIN_EDGES;
  config.threads = 2;
  scene(0);
  crowd.session = open_session(&config, depth, &runs);
  crowd.stop = 0;
  crowd.ready = 0;
  for (k = 0; k < 6; ++k) CHECK(pthread_create(&threads[k], NULL, works[k], &crowd) == 0);
  usleep((useconds_t)milliseconds * 1000);
  for (k = 0; k < 600 && crowd.ready == 0; ++k) usleep(100000); /* a GPU's steps take their time under a sanitizer */
  se_session_close(crowd.session);
  usleep(20000);
  crowd.stop = 1;
  for (k = 0; k < 6; ++k) CHECK(pthread_join(threads[k], NULL) == 0);
  CHECK(crowd.ready > 0);
  se_session_destroy(crowd.session);
}

/* A frame without a session: no allocation either, and codes for what does not fit. */
static void frames(void) {
  se_session_config session;
  se_frame_config config;
  se_frame *frame = NULL;
  char message[128] = "";
  static uint8_t out[HEIGHT][2 * WIDTH][3];
  static float nearness[MAP_HEIGHT][MAP_WIDTH];
  const se_array picture = frame_of(pixels, HEIGHT, WIDTH), wide = frame_of(out, HEIGHT, 2 * WIDTH);
  const se_array map = {nearness, MAP_HEIGHT, MAP_WIDTH, 1, SE_FLOAT32, 4 * MAP_WIDTH, 4, 4};
  unsigned long before = 0;
  int32_t k, y, x, height, width, channels;
  for (y = 0; y < MAP_HEIGHT; ++y)
    for (x = 0; x < MAP_WIDTH; ++x) nearness[y][x] = (float)y / MAP_HEIGHT;
  se_session_defaults(&session, WIDTH, HEIGHT, 3);
  se_frame_defaults(&config, WIDTH, HEIGHT, 3);
  CHECK(se_frame_create(&config, &frame, message, sizeof message) == SE_ERROR_BAD_SHAPE && message[0] != 0); /* no map */
  config.map_width = MAP_WIDTH;
  config.map_height = MAP_HEIGHT;
  config.device = SE_CUDA;
  if (se_cuda_device_count() == 0) CHECK(se_frame_create(&config, &frame, NULL, 0) == SE_ERROR_NO_BACKEND);
  config.device = SE_CPU;
  config.threads = 2;
  CHECK(se_frame_create(&config, &frame, message, sizeof message) == SE_OK && se_frame_bytes(frame) > 0);
  CHECK(se_frame_shape(frame, &session.params, &height, &width, &channels) == SE_OK);
  CHECK(height == HEIGHT && width == 2 * WIDTH && channels == 3);
  for (k = 0; k < 60; ++k) {
    if (k == 20) before = allocations;
    scene(k);
    session.params.strength = (float)(k % 9);
    CHECK(se_frame_run(frame, &session.params, &picture, NULL, &map, &wide, NULL) == SE_OK);
  }
  CHECK(allocations == before);
  CHECK(se_frame_run(frame, &session.params, &wide, NULL, &map, &wide, NULL) == SE_ERROR_BAD_SHAPE);
  CHECK(se_frame_run(frame, &session.params, &picture, NULL, NULL, &wide, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_frame_run(frame, &session.params, &picture, NULL, &picture, &wide, NULL) == SE_ERROR_BAD_DTYPE);
  session.params.layout = SE_LAYOUT_DEPTH;
  CHECK(se_frame_run(frame, &session.params, &picture, NULL, &map, &wide, NULL) == SE_ERROR_BAD_PARAMETER);
  se_frame_destroy(frame);
  se_frame_destroy(NULL);
}

/* A GPU's steps on the host give the CPU's bytes: frames under every layout, with what lies flat over them and what was seen
 * before, and views from elsewhere. */
enum { STEPS_FRAMES = 12 };
struct steps {
  uint8_t pictures[STEPS_FRAMES][2 * HEIGHT * WIDTH * 3], views[STEPS_FRAMES][HEIGHT][WIDTH][3];
  uint8_t tiles[STEPS_FRAMES][41][2 * 55][3];
};

static void steps_of(int32_t isa, struct steps *made) {
  se_session_config config;
  se_session_params params;
  se_session_result result;
  se_session *session = NULL;
  se_render_view view;
  se_array over;
  atomic_int runs = 0;
  int32_t k, y, x;
  static uint8_t text[20][30][4], cover[HEIGHT][WIDTH];
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH), flat = {cover, HEIGHT, WIDTH, 1, SE_UINT8, WIDTH, 1, 1};
  const se_quilt quilt = {2, 1, -1.5f, 1, 0.25f, 0};
  for (y = 0; y < 20; ++y)
    for (x = 0; x < 30; ++x) memset(text[y][x], 9 * y + x, 4);
  for (y = 30; y < 60; ++y)
    for (x = 50; x < 90; ++x) cover[y][x] = (uint8_t)((y + x) % 3);
  over = frame_of(text, 20, 30);
  over.channels = 4;
  over.stride_y = 120;
  over.stride_x = 4;
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  config.policy = SE_POLICY_EVERY;
  config.isa = isa;
  config.remember = 1;
  config.threads = 2;
  session = open_session(&config, depth, &runs);
  CHECK(se_session_get_params(session, &params) == SE_OK);
  view.eye = -0.75f;
  view.down = 0.5f;
  view.shift = 2;
  for (k = 0; k < STEPS_FRAMES; ++k) {
    const se_array tiles = frame_of(made->tiles[k], 41, 2 * 55);
    scene(k);
    params.layout = k % 10;
    params.both = k % 2;
    params.swap = k % 5 == 0;
    params.fill = k % 7 != 3;
    params.roll = (float)(k % 3 * 15 - 15);
    CHECK(se_session_set_params(session, &params) == SE_OK);
    CHECK(se_session_set_mask(session, k % 4 != 0 ? &flat : NULL, (float)(k % 6 - 3)) == SE_OK);
    CHECK(se_session_set_overlay(session, k % 3 != 0 ? &over : NULL, 17 * k - 25, 90 - 9 * k, (float)(5 - k)) == SE_OK);
    CHECK(se_session_submit(session, &frame, k, 5000, NULL) == SE_OK);
    CHECK(se_session_wait(session, 5000, &result) == SE_OK && result.timestamp == k);
    memcpy(made->pictures[k], result.picture.data, (size_t)result.picture.height * (size_t)result.picture.stride_y);
    CHECK(se_session_release(session, result.ticket) == SE_OK);
    view.out = frame_of(made->views[k], HEIGHT, WIDTH);
    if (k % 3 == 1) CHECK(se_session_render(session, NULL, 1, &view, NULL) == SE_OK);
    if (k % 5 == 2) CHECK(se_session_render_quilt(session, NULL, &quilt, &tiles, NULL) == SE_OK);
  }
  CHECK(se_session_submit_on_gpu(session, &frame, NULL, 0, 0, NULL) == SE_ERROR_NO_BACKEND);
  CHECK(se_session_render_on_gpu(session, NULL, 1, &view, NULL, NULL) == SE_ERROR_NO_BACKEND);
  CHECK(se_session_render_quilt_on_gpu(session, NULL, &quilt, &frame, NULL, NULL) == SE_ERROR_NO_BACKEND);
  se_session_close(session);
  CHECK(se_session_submit(session, &frame, 0, 0, NULL) == SE_ERROR_CLOSED);
  CHECK(se_session_render(session, NULL, 1, &view, NULL) == SE_ERROR_CLOSED);
  se_session_destroy(session);
}

static void steps_of_a_gpu(void) {
  static struct steps want, got;
  se_session_config config;
  se_session *session = NULL;
  char message[128] = "";
  atomic_int runs = 0;
  steps_of(SE_ISA_AUTO, &want);
  steps_of(SE_ISA_BLOCKS, &got);
  CHECK(memcmp(want.pictures, got.pictures, sizeof want.pictures) == 0);
  CHECK(memcmp(want.views, got.views, sizeof want.views) == 0);
  CHECK(memcmp(want.tiles, got.tiles, sizeof want.tiles) == 0);
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  config.depth = depth;
  config.depth_user = &runs;
  config.depth_width = MAP_WIDTH;
  config.depth_height = MAP_HEIGHT;
  config.keep_on_gpu = 1;
  CHECK(se_session_create(&config, &session, message, sizeof message) == SE_ERROR_BAD_PARAMETER);
  config.keep_on_gpu = 0;
  config.device = SE_CUDA;
  if (se_cuda_device_count() == 0) CHECK(se_session_create(&config, &session, message, sizeof message) == SE_ERROR_NO_BACKEND);
}

/* Frames on the host through lanes: the same bytes, in order, and never more than there are lanes. */
static void pipes(void) {
  enum { LANES = 3 };
  static uint8_t want[LANES][HEIGHT][2 * WIDTH][3], got[HEIGHT][2 * WIDTH][3];
  static float nearness[MAP_HEIGHT][MAP_WIDTH];
  se_session_config session;
  se_frame_config config;
  se_frame *frame = NULL;
  se_frame_pipe *pipe = NULL;
  char message[64] = "";
  const se_array picture = frame_of(pixels, HEIGHT, WIDTH), out = frame_of(got, HEIGHT, 2 * WIDTH);
  const se_array map = {nearness, MAP_HEIGHT, MAP_WIDTH, 1, SE_FLOAT32, 4 * MAP_WIDTH, 4, 4};
  int32_t k, y, x;
  for (y = 0; y < MAP_HEIGHT; ++y)
    for (x = 0; x < MAP_WIDTH; ++x) nearness[y][x] = (float)((y + x) % 7) / 6;
  se_session_defaults(&session, WIDTH, HEIGHT, 3);
  se_frame_defaults(&config, WIDTH, HEIGHT, 3);
  CHECK(se_frame_pipe_create(&config, LANES, &pipe, NULL, 0) == SE_ERROR_BAD_SHAPE && pipe == NULL);
  config.map_width = MAP_WIDTH;
  config.map_height = MAP_HEIGHT;
  CHECK(se_frame_pipe_create(&config, 9, &pipe, message, sizeof message) == SE_ERROR_BAD_PARAMETER && strstr(message, "lanes") != NULL);
  CHECK(se_frame_pipe_create(&config, LANES, &pipe, NULL, 0) == SE_OK);
  CHECK(se_frame_create(&config, &frame, NULL, 0) == SE_OK);
  CHECK(se_frame_pipe_wait(pipe, &out) == SE_ERROR_BUSY);
  for (k = 0; k < LANES; ++k) {
    const se_array wide = frame_of(want[k], HEIGHT, 2 * WIDTH);
    scene(k);
    session.params.strength = (float)(2 + k);
    CHECK(se_frame_run(frame, &session.params, &picture, NULL, &map, &wide, NULL) == SE_OK);
    CHECK(se_frame_pipe_submit(pipe, &session.params, &picture, NULL, &map) == SE_OK);
  }
  CHECK(se_frame_pipe_submit(pipe, &session.params, &picture, NULL, &map) == SE_ERROR_BUSY);
  CHECK(se_frame_pipe_submit(pipe, &session.params, &map, NULL, &map) == SE_ERROR_BAD_DTYPE);
  CHECK(se_frame_pipe_wait(pipe, &picture) == SE_ERROR_BAD_SHAPE);
  for (k = 0; k < LANES; ++k) {
    CHECK(se_frame_pipe_wait(pipe, &out) == SE_OK);
    CHECK(memcmp(got, want[k], sizeof got) == 0);
  }
  CHECK(se_frame_pipe_submit(pipe, &session.params, &picture, NULL, &map) == SE_OK);
  se_frame_pipe_destroy(pipe); /* with a frame in it */
  se_frame_pipe_destroy(NULL);
  se_frame_destroy(frame);
}

static void interop(void) {
  se_external_memory *memory = NULL;
  se_external_semaphore *semaphore = NULL;
  CHECK(se_external_memory_import(-1, 4096, SE_HANDLE_FD, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_external_memory_import(-1, 4096, SE_HANDLE_FD, &memory) != SE_OK && memory == NULL);
  CHECK(se_external_semaphore_import(-1, SE_HANDLE_FD, &semaphore) != SE_OK && semaphore == NULL);
  CHECK(se_external_wait(NULL, 1, NULL) == SE_ERROR_NULL_POINTER && se_external_signal(NULL, 1, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_external_memory_data(NULL) == NULL);
  se_gl_resource *gl = NULL;
  uint64_t bytes = 1;
  CHECK(se_gl_register_buffer(1, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_gl_register_texture(1, 0x0DE1, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_gl_register_buffer(1, &gl) != SE_OK && gl == NULL);         /* no context is current */
  CHECK(se_gl_register_texture(1, 0x0DE1, &gl) != SE_OK && gl == NULL);
  CHECK(se_gl_map(NULL, NULL) == SE_ERROR_NULL_POINTER && se_gl_unmap(NULL, NULL) == SE_ERROR_NULL_POINTER);
  CHECK(se_gl_data(NULL, &bytes) == NULL && bytes == 0);
  CHECK(se_gl_write(NULL, NULL, NULL) == SE_ERROR_NULL_POINTER && se_gl_read(NULL, NULL, NULL) == SE_ERROR_NULL_POINTER);
  se_gl_release(NULL);
  se_external_memory_release(NULL);
  se_external_semaphore_release(NULL);
}

/* A depth function's values may be of any scale: those of the smallest floats and the greatest give the same pictures. */
static void scales(void) {
  enum { FRAMES = 4 };
  static const float all[] = {1, 0x1p-30f, 0x1p-149f, 0x1p123f};
  static uint8_t want[FRAMES][HEIGHT][WIDTH][3];
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH);
  size_t n;
  for (n = 0; n < sizeof all / sizeof *all; ++n) {
    atomic_int runs = 0;
    se_session_config config;
    se_session *session;
    se_session_result result;
    int32_t k;
    depth_scale = all[n];
    se_session_defaults(&config, WIDTH, HEIGHT, 3);
    config.policy = SE_POLICY_EVERY;
    config.params.layout = SE_LAYOUT_DEPTH;
    session = open_session(&config, depth, &runs);
    for (k = 0; k < FRAMES; ++k) {
      scene(k);
      CHECK(se_session_submit(session, &frame, k, 1000, NULL) == SE_OK && se_session_wait(session, 5000, &result) == SE_OK);
      if (n == 0) memcpy(want[k], result.picture.data, sizeof want[k]);
      CHECK(memcmp(want[k], result.picture.data, sizeof want[k]) == 0);
      CHECK(se_session_release(session, result.ticket) == SE_OK);
    }
    CHECK(want[0][0][0][0] < want[0][HEIGHT - 1][WIDTH - 1][0]);
    se_session_destroy(session);
  }
  depth_scale = 1;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *submits_at_leisure(void *session) {
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH);
  CHECK(se_session_submit(session, &frame, 0, 5000, NULL) == SE_ERROR_CLOSED);
  return NULL;
}

/* Where there is no room, each call waits for as long as it was told, whatever others are waiting for. */
static void patience(void) {
  atomic_int runs = 0;
  se_session_config config;
  se_session *session;
  pthread_t other;
  double begun;
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH);
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  config.policy = SE_POLICY_EVERY;
  config.slots = 2;
  session = open_session(&config, depth, &runs);
  while (se_session_submit(session, &frame, 0, 200, NULL) == SE_OK) continue;
  CHECK(pthread_create(&other, NULL, submits_at_leisure, session) == 0);
  usleep(50000);
  begun = seconds();
  CHECK(se_session_submit(session, &frame, 0, 0, NULL) == SE_ERROR_BUSY);
  CHECK(seconds() - begun < 1.0);
  se_session_close(session);
  CHECK(pthread_join(other, NULL) == 0);
  se_session_destroy(session);
}

static void ends(void) {
  atomic_int runs = 0;
  se_session_config config;
  se_session *session;
  double begun;
  const se_array frame = frame_of(pixels, HEIGHT, WIDTH);
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  config.depth_release = released;
  session = open_session(&config, stuck, &runs);
  CHECK(se_session_submit(session, &frame, 0, 0, NULL) == SE_OK);
  while (runs == 0) usleep(1000);
  begun = seconds();
  se_session_destroy(session);
  CHECK(seconds() - begun < 1.0);
  CHECK(runs == 1); /* the function is left behind, and what it works with is not released */
  let_go = 1;
  while (runs != -1) usleep(1000);
  begun = seconds();
  config.depth_release = released;
  session = open_session(&config, depth, &runs);
  se_session_destroy(session);
  CHECK(runs == -1 && seconds() - begun < 0.5);
  se_session_destroy(NULL);
}

static void failures(void) {
  atomic_int runs = 0;
  se_session_config config;
  se_session *session = NULL;
  se_session_result result;
  se_session_params params;
  se_render_view view;
  char message[64] = "";
  se_array frame = frame_of(pixels, HEIGHT, WIDTH);
  int32_t k;
  se_session_defaults(&config, WIDTH, HEIGHT, 3);
  CHECK(se_session_create(NULL, &session, message, sizeof message) == SE_ERROR_NULL_POINTER && strstr(message, "null") != NULL);
  CHECK(se_session_create(&config, &session, message, sizeof message) == SE_ERROR_NULL_POINTER && session == NULL);
  CHECK(strstr(message, "depth_model") != NULL);
  config.slots = 1;
  CHECK(se_session_create(&config, &session, message, sizeof message) == SE_ERROR_BAD_PARAMETER);
  CHECK(strcmp(message, "slots has to be 2 to 16.") == 0);
  config.slots = 4;
  config.depth_model = "/nowhere/model.onnx";
  config.onnxruntime = "/nowhere/libonnxruntime.so";
  CHECK(se_session_create(&config, &session, message, sizeof message) == SE_ERROR_MODEL && message[0] != 0);
  CHECK(se_session_create(&config, &session, NULL, 0) == SE_ERROR_MODEL);
  config.depth_model = NULL;
  config.struct_size -= 4;
  CHECK(se_session_create(&config, &session, message, sizeof message) == SE_ERROR_BAD_PARAMETER);
  config.struct_size += 4;
  config.width = 9000;
  CHECK(se_session_create(&config, &session, message, sizeof message) == SE_ERROR_BAD_SHAPE);
  config.width = WIDTH;
  session = open_session(&config, depth, &runs);
  CHECK(se_session_wait(session, 0, &result) == SE_ERROR_BUSY);
  view.out = frame;
  view.eye = view.down = view.shift = 0;
  {
    const se_quilt good = {2, 1, -1, 1, 0, 0}, far = {2, 1, -9, 1, 0, 0}, many = {300, 1, -1, 1, 0, 0};
    CHECK(se_session_render_quilt(session, NULL, &good, &frame, NULL) == SE_ERROR_BUSY);
    CHECK(se_session_render_quilt(session, NULL, &far, &frame, NULL) == SE_ERROR_BAD_PARAMETER);
    CHECK(se_session_render_quilt(session, NULL, &many, &frame, NULL) == SE_ERROR_BAD_PARAMETER);
    CHECK(se_session_render_quilt(session, NULL, NULL, &frame, NULL) == SE_ERROR_NULL_POINTER);
    CHECK(se_session_set_mask(session, &frame, 0) == SE_ERROR_BAD_SHAPE);
    CHECK(se_session_set_mask(session, NULL, 0) == SE_OK);
  }
  CHECK(se_session_render(session, NULL, 1, &view, NULL) == SE_ERROR_BUSY);
  CHECK(se_session_submit(session, NULL, 0, 0, NULL) == SE_ERROR_NULL_POINTER);
  frame.width -= 1;
  CHECK(se_session_submit(session, &frame, 0, 0, NULL) == SE_ERROR_BAD_SHAPE);
  frame.width += 1;
  frame.dtype = SE_FLOAT32;
  CHECK(se_session_submit(session, &frame, 0, 0, NULL) != SE_OK);
  frame.dtype = SE_UINT8;
  CHECK(se_session_get_params(session, &params) == SE_OK);
  params.strength = -1;
  CHECK(se_session_set_params(session, &params) == SE_ERROR_BAD_PARAMETER);
  params.strength = 0.0f / 0.0f;
  CHECK(se_session_set_params(session, &params) == SE_ERROR_BAD_PARAMETER);
  {
    uint8_t text[4][8][4];
    se_array overlay = frame_of(text, 4, 8);
    overlay.channels = 4;
    overlay.stride_y = 32;
    overlay.stride_x = 4;
    CHECK(se_session_set_overlay(session, &overlay, INT32_MIN, 0, 0) == SE_ERROR_BAD_PARAMETER);
    CHECK(se_session_set_overlay(session, &overlay, 0, 16385, 0) == SE_ERROR_BAD_PARAMETER);
  }
  for (k = 0; k < 100; ++k) { /* the sentence is the last one's, however often they take turns */
    depth_fails = k % 2 != 0 ? 7 : 8;
    CHECK(se_session_submit(session, &frame, 0, 0, NULL) == SE_OK);
    CHECK(se_session_wait(session, 5000, &result) == SE_OK);
    CHECK((result.flags & SE_RESULT_DEPTH_FAILED) != 0 && result.depth_ticket == 0);
    CHECK(strstr(se_session_depth_error(session), k % 2 != 0 ? "code 7" : "code 8") != NULL);
    CHECK(se_session_release(session, result.ticket) == SE_OK);
  }
  depth_fails = 0;
  CHECK(se_session_submit(session, &frame, 0, 0, NULL) == SE_OK);
  CHECK(se_session_wait(session, 5000, &result) == SE_OK);
  CHECK((result.flags & SE_RESULT_DEPTH_FAILED) == 0 && result.depth_ticket == 101);
  se_session_close(session);
  CHECK(se_session_wait(session, -1, &result) == SE_ERROR_CLOSED);
  CHECK(se_session_submit(session, &frame, 0, -1, NULL) == SE_ERROR_CLOSED);
  se_session_destroy(session);
}

int main(void) {
  failures();
  no_allocations_per_frame();
  objects();
  label_maps();
  frames();
  pipes();
  steps_of_a_gpu();
  interop();
  overhead();
  scales();
  patience();
  crowds(SE_ISA_AUTO, SE_POLICY_NEWEST, 2, 700);
  crowds(SE_ISA_AUTO, SE_POLICY_EVERY, 1, 700);
  crowds(SE_ISA_AUTO, SE_POLICY_NEWEST, 0, 700);
  crowds(SE_ISA_BLOCKS, SE_POLICY_NEWEST, 1, 1500);
  ends();
  puts("sessions: all is well");
  return 0;
}
