/* SPDX-License-Identifier: Apache-2.0
 *
 * Live sessions (C99): frames in, stereo pictures out, on time.
 *
 *   se_session_config config;
 *   se_session_defaults(&config, 1280, 720, 3);
 *   config.depth_model = "depth_builtin.onnx";
 *   se_session *session;
 *   se_session_create(&config, &session, message, sizeof message);
 *   for each frame: se_session_submit(...), se_session_wait(...), show, se_session_release(...)
 *   se_session_destroy(session);
 *
 * A session takes frames of one size. Threads of its own work on them, one after another: the first finds the picture's
 * motion and carries depth along it, the second warps, fills and packs; a third makes depth (a network at its own rate, or
 * your function). A frame that is due for depth waits for it, but where it may go without (se_cheaper) no longer than
 * its deadline or, with SE_POLICY_NEWEST, than until the next frame comes: what is found later is carried to later
 * frames. After the first frames, for which threads and their scratch memory are had, nothing is allocated (but by render, for
 * views of its own, at its first call, and for tiles of a new size; and by what sets overlay and mask), and no lock is held
 * while pixels are worked on. Every function may be
 * called from any thread. Errors are codes; a session whose depth fails stays usable and says so in its results.
 *
 * With device = SE_CUDA a frame goes to the GPU once, through page-locked memory or from memory there; it is made small, gets
 * the session's own network's depth (ONNX Runtime's CUDA provider) and becomes the stereo picture there, by one CUDA graph;
 * motion and steadiness, which are small, stay on the CPU. The bytes are the CPU's for the same depth. Overlay and mask lie
 * there, and go when no frame needs them any more; render works beside the frames, on a stream of its own. A GPU that fails
 * ends the session, as se_session_close does, with SE_ERROR_DEVICE_LOST in place of SE_ERROR_CLOSED.
 *
 * On the CPU small networks, the built-in one among them, run on kernels of our own (network.h). ONNX Runtime's library is loaded
 * for other models and on a GPU, and is not needed otherwise.
 */
#ifndef SECONDEYE_SESSION_H
#define SECONDEYE_SESSION_H

#include "secondeye/secondeye.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct se_session se_session;

typedef enum se_policy {
  SE_POLICY_NEWEST = 0, /* a new frame takes the place of one that still waits; a slow consumer sees the newest, one
                           that waits in se_session_wait gets the next that is ready */
  SE_POLICY_EVERY = 1   /* every frame comes out, in order; submit waits, or answers SE_ERROR_BUSY */
} se_policy;

typedef enum se_session_layout {
  SE_LAYOUT_SBS = 0,
  SE_LAYOUT_TB = 1,
  SE_LAYOUT_ROWS = 2,
  SE_LAYOUT_COLUMNS = 3,
  SE_LAYOUT_CHECKERBOARD = 4,
  SE_LAYOUT_HALF_SBS = 5,
  SE_LAYOUT_HALF_TB = 6,
  SE_LAYOUT_ANAGLYPH = 7, /* 3 channels; se_session_params::anaglyph is its matrix */
  SE_LAYOUT_RIGHT = 8,    /* the right view alone */
  SE_LAYOUT_DEPTH = 9     /* nearness in grey, in every channel */
} se_session_layout;

/* What may be given up, in this order, when a frame would otherwise miss its deadline; SE_CHEAPER_NO_DEPTH also when it
 * would hold up the next frame of SE_POLICY_NEWEST. */
typedef enum se_cheaper {
  SE_CHEAPER_SMALL_DEPTH = 1, /* the network at half its width and height (where it takes other sizes) */
  SE_CHEAPER_NO_DEPTH = 2,    /* the last depth, carried along the motion */
  SE_CHEAPER_PLAIN_EDGES = 4  /* depth enlarged without regard to the picture's edges */
} se_cheaper;

/* How the pictures look. May be changed between frames; the next frame that is warped obeys. */
typedef struct se_session_params {
  float strength;    /* disparity range, percent of the width, 0..20 */
  float convergence; /* the nearness that lies on the screen, 0..1 */
  int32_t layout;    /* se_session_layout */
  int32_t both;      /* not 0: each eye moves half way, else the frame is the left view */
  int32_t swap;      /* not 0: the views change places */
  int32_t fill;      /* 0 leaves holes black */
  int32_t anaglyph[18]; /* 3 x 6 in 1/4096, as se_anaglyph's */
  float roll;        /* of the head, degrees, -60..60: over 0 the right eye is the lower one, and disparity turns with it */
} se_session_params;

/* Depth by a function of yours, called on the session's thread. picture: uint8 [H, W, 3|4], the whole frame; nearness:
 * float32 [depth_height, depth_width], to be written, larger is nearer, any scale. Gives 0, or anything else on failure. */
typedef int32_t (*se_depth_fn)(void *user, const se_array *picture, const se_array *nearness);

typedef struct se_session_config {
  uint32_t struct_size; /* sizeof(se_session_config), which tells versions apart */
  int32_t width, height, channels; /* of the frames; 3 or 4 channels */
  int32_t policy;       /* se_policy */
  int32_t slots;        /* frames in flight, results that you hold among them: 2..16 */
  int32_t depth_every;  /* every n-th frame gets depth of its own, 1..1000; 0: as often as the network can, on the side */
  float deadline_ms;    /* from submit to ready; 0 is none */
  uint32_t cheaper;     /* se_cheaper bits */
  float steady;         /* 0..0.98: how much of the past stays in depth that agrees with it */
  int32_t widen;        /* near objects grow by this many pixels, 0..16 */
  int32_t threads;      /* 0: one per core */
  int32_t device;       /* se_device; CUDA: the creating thread's current GPU */
  int32_t isa;          /* CPU only, as se_exec's; SE_ISA_BLOCKS takes a GPU's steps on the host, for tests */
  int32_t keep_on_gpu;  /* CUDA only; not 0: results' pictures lie on the GPU, finished for every stream */
  int32_t nv12;         /* not 0: frames come as NV12, whose width is even: uint8 [H + ceil(H / 2), W], luma above chroma */
  int32_t standard;     /* se_standard, of NV12 */
  int32_t full_range;   /* of NV12 */
  int32_t remember;     /* not 0: holes show what was seen there before, where a still or panning camera has seen it */
  int32_t key_every;    /* 1..1000: key frames are offered to a segmenter of yours (se_session_wait_key), the first of each shot,
                         * this many frames after the last one, and when a fifth of the picture is no longer known; 0: none */
  const char *depth_model; /* an ONNX depth network (paths are UTF-8), or null for `depth` */
  const char *onnxruntime; /* path of ONNX Runtime's shared library, for models that need it; null: as the loader finds it */
  int32_t depth_width, depth_height; /* of the network's input, or of the map of `depth`; 0: what the model says */
  float mean[3], std[3];   /* of the input; std[0] == 0: what the model says */
  int32_t farther;         /* not 0: larger is farther in the network's output; -1: what the model says */
  se_depth_fn depth;
  void *depth_user;
  void (*depth_release)(void *user); /* if not null: called once, when `depth` is over for good and depth_user no longer
                                        needed, on any thread, perhaps after se_session_destroy; not if creation fails */
  se_session_params params; /* at the start */
} se_session_config;

typedef enum se_result_flags {
  SE_RESULT_LATE = 1,        /* ready after its deadline */
  SE_RESULT_OWN_DEPTH = 2,   /* depth was made for this very frame */
  SE_RESULT_CHEAPER = 4,     /* a cheaper path was taken for the deadline's sake */
  SE_RESULT_CUT = 8,         /* the first frame of a shot */
  SE_RESULT_DEPTH_FAILED = 16 /* depth failed; the frame is flat, or carries the last depth */
} se_result_flags;

typedef struct se_session_result {
  uint64_t ticket;       /* as submit gave it */
  int64_t timestamp;     /* as submitted */
  uint64_t depth_ticket; /* the frame that the depth is of; 0 when there is none yet */
  uint64_t objects_ticket; /* the key frame whose labels depth's edges were put on; 0 when there are none */
  uint32_t flags;        /* se_result_flags */
  float latency_ms;      /* submit to ready */
  se_array picture;      /* valid until se_session_release */
} se_session_result;

typedef struct se_stage_stats {
  float p50_ms, p90_ms, p99_ms, max_ms; /* of the last 1024 */
  uint64_t count;
} se_stage_stats;

typedef enum se_stage {
  SE_STAGE_LOOK = 0,  /* small grey picture, motion, carrying depth */
  SE_STAGE_DEPTH = 1, /* the network */
  SE_STAGE_WARP = 2,  /* disparity, warp, fill */
  SE_STAGE_PACK = 3,  /* layout */
  SE_STAGE_TOTAL = 4, /* submit to ready */
  SE_STAGE_AGE = 5,   /* of the depth that a frame used */
  SE_STAGE_OBJECTS_AGE = 6, /* of the key frame whose labels it used */
  SE_STAGES = 7
} se_stage;

typedef struct se_session_stats {
  uint64_t submitted, ready, dropped, late, cheaper, depth_runs, depth_failures;
  uint64_t keys_offered, keys_labelled; /* key frames; those whose labels came */
  uint64_t memory_bytes; /* of the session's buffers, and of a network on our own kernels; ONNX Runtime does not tell */
  se_stage_stats stages[SE_STAGES];
} se_session_stats;

/* One view that se_session_render makes. */
typedef struct se_render_view {
  float eye;   /* where the eye stands: 1 is the right view of a pair, -1 the left one, 0 the frame; -2..2 */
  float down;  /* how far below, by the same measure; -2..2 */
  float shift; /* moves the whole view to the left, pixels */
  se_array out; /* uint8 [H, W, C] of the frame's shape, caller-owned */
} se_render_view;

/* Many views in one picture, for displays that show each to another direction: tiles of one size, in equal steps of the
 * eye. Every view is sheared about the plane of convergence (off-axis), which lies still in all of them. */
typedef struct se_quilt {
  int32_t columns, rows; /* of tiles; at most 256 in all */
  float first, last;     /* where the eye stands in the first tile and in the last, -2..2 */
  float down;            /* how far below in all of them, -2..2 */
  int32_t from_top;      /* not 0: the first tile is at the top left; else at the bottom left, as such displays take it */
} se_quilt;

SE_API void se_session_defaults(se_session_config *config, int32_t width, int32_t height, int32_t channels);

/* message, if not null, gets a sentence when this fails. */
SE_API int32_t se_session_create(const se_session_config *config, se_session **session, char *message,
                                 size_t message_size);

/* A session is its process's: in one that was forked from it every call gives SE_ERROR_FORKED, and destroying does nothing.
 *
 * Ends the session from any state, within a second; results that were not released are gone. Null is allowed. No other
 * call may be running on the session or begin after. A depth function that does not return in that time is left behind
 * on its thread, with the memory that it was given: `depth_release` tells when it has come back. */
SE_API void se_session_destroy(se_session *session);

/* Ends the work but not the session: calls that wait, and later ones that give or take frames, views, key frames or labels, give
 * SE_ERROR_CLOSED. Results that are held stay valid; parameters, overlay, mask and stats can be set and read as before. */
SE_API void se_session_close(se_session *session);

SE_API int32_t se_session_get_params(se_session *session, se_session_params *params);
SE_API int32_t se_session_set_params(se_session *session, const se_session_params *params);

/* Text and menus that stay flat and sharp: an RGBA picture (uint8, straight alpha) laid over every view at (x, y), at a
 * disparity of its own (pixels; 0 lies on the screen). It is copied; null takes it away. At most the frame's size. */
SE_API int32_t se_session_set_overlay(se_session *session, const se_array *rgba, int32_t x, int32_t y,
                                      float disparity);

/* What the frame itself holds of text and menus: uint8 [H, W] of the frame's size, not 0 where the picture stays flat and
 * sharp in every view, at this disparity (pixels; 0 lies on the screen). It is copied; null takes it away. */
SE_API int32_t se_session_set_mask(se_session *session, const se_array *mask, float disparity);

/* Takes a frame (it is copied). timeout_ms: how long to wait for room (SE_POLICY_EVERY); negative: without end.
 * SE_ERROR_BUSY when there is none. */
SE_API int32_t se_session_submit(se_session *session, const se_array *frame, int64_t timestamp, int32_t timeout_ms,
                                 uint64_t *ticket);

/* The same of a frame on the session's GPU, of any strides, which is ready on `stream` (a cudaStream_t) and copied by it: its
 * memory may be written again by what comes after on that stream. Only where depth is the session's own network,
 * and key_every and remember are 0, which look at frames on the host: else SE_ERROR_NO_BACKEND. */
SE_API int32_t se_session_submit_on_gpu(se_session *session, const se_array *frame, void *stream, int64_t timestamp,
                                        int32_t timeout_ms, uint64_t *ticket);

/* The next result; timeout_ms 0 polls, negative waits without end. SE_ERROR_BUSY when there is none in time. */
SE_API int32_t se_session_wait(se_session *session, int32_t timeout_ms, se_session_result *result);

/* Gives a result's picture back. */
SE_API int32_t se_session_release(se_session *session, uint64_t ticket);

/* Views of the newest finished frame at once, on the calling thread: for displays that run faster than frames come, for
 * head movement, for quilts. params null: the session's. SE_ERROR_BUSY before the first frame is ready. */
SE_API int32_t se_session_render(se_session *session, const se_session_params *params, int32_t count,
                                 const se_render_view *views, uint64_t *ticket);

/* The same as one picture, uint8 [rows * h, columns * w, C]; tiles of another size than the frame's are resampled. */
SE_API int32_t se_session_render_quilt(se_session *session, const se_session_params *params, const se_quilt *quilt,
                                       const se_array *out, uint64_t *ticket);

/* Both with arrays on the session's GPU, of any strides: they are written after what `stream` (a cudaStream_t) has queued, and
 * finished for every stream when this returns. */
SE_API int32_t se_session_render_on_gpu(se_session *session, const se_session_params *params, int32_t count,
                                        const se_render_view *views, void *stream, uint64_t *ticket);
SE_API int32_t se_session_render_quilt_on_gpu(se_session *session, const se_session_params *params, const se_quilt *quilt,
                                              const se_array *out, void *stream, uint64_t *ticket);

/* Objects, told apart by a segmenter of yours, at its own pace on a thread of its own: this gives the next key frame, copied
 * into picture (uint8 [H, W, C] of the frame's shape, caller-owned), and its ticket; timeout_ms as in se_session_wait. No
 * other key frame is offered before se_session_set_labels has answered this one. No frame waits for that: labels are carried
 * along the motion from their key frame to the frame at hand, and from there on. SE_ERROR_BAD_PARAMETER when key_every
 * is 0. */
SE_API int32_t se_session_wait_key(se_session *session, int32_t timeout_ms, const se_array *picture, uint64_t *ticket);

/* The objects of the key frame that was given last: uint16 [h, w], of any size up to 16384, 0 is no object; copied. Null:
 * they could not be told apart, and those that were known are dropped. Labels of a shot that is over do nothing.
 * SE_ERROR_BAD_PARAMETER for another ticket, and for one that was answered. */
SE_API int32_t se_session_set_labels(se_session *session, uint64_t ticket, const se_array *labels);

/* What a session does with labels, for maps of your own; packed arrays, the same bytes on every machine.
 * Edges: values float32 [h, w], finite, in place; labels uint16 [h, w], 0 is no object and is left as it is. Cells within two
 * of a border where the map is not smooth take the depth of their own object further in. */
SE_API int32_t se_align_edges(const se_array *values, const se_array *labels);

/* Labels of a key frame at another frame, now. now, key: uint8 [h, w], brightness; labels: uint16 [h, w], the key
 * frame's; small: uint8 [h, w, 3], now in colour; moves: int32 [ceil(h / 8), ceil(w / 8), 3], in place, where each block
 * is sought in the key frame (dy, dx), then where it was found, as of se_motion; parts: int32 [h, w], label + 1, or 0 where
 * it is not known. */
SE_API int32_t se_carry_labels(const se_array *now, const se_array *key, const se_array *labels, const se_array *small,
                               const se_array *moves, const se_array *parts);

SE_API int32_t se_session_get_stats(se_session *session, se_session_stats *stats);

/* What went wrong last with depth, as a sentence; "" when nothing did. Valid until the session ends. */
SE_API const char *se_session_depth_error(se_session *session);

#ifdef __cplusplus
}
#endif
#endif /* SECONDEYE_SESSION_H */
