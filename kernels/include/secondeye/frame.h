/* SPDX-License-Identifier: Apache-2.0
 *
 * One frame from picture and nearness to its stereo picture, where the pixels already are (C99): on a GPU, on the caller's
 * stream and in the caller's memory, as one CUDA graph; or on the CPU. For apps that bring their own depth and loop.
 *
 *   se_frame_config config;
 *   se_frame_defaults(&config, 3840, 2160, 4);
 *   config.device = SE_CUDA;
 *   config.map_width = 416, config.map_height = 224;
 *   se_frame_create(&config, &frame, message, sizeof message);
 *   for each frame: se_frame_run(frame, &params, &picture, NULL, &nearness, &out, stream)
 *
 * The bytes are those of a session (session.h) whose depth is the same nearness. Scratch memory is had at creation; a run
 * allocates nothing and waits for nothing. On CUDA the launches of a frame are captured once; as long as parameters and
 * addresses stay the same the graph is launched again, else it is captured anew and updated.
 */
#ifndef SECONDEYE_FRAME_H
#define SECONDEYE_FRAME_H

#include "secondeye/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct se_frame se_frame;

typedef struct se_frame_config {
  uint32_t struct_size; /* sizeof(se_frame_config) */
  int32_t device;       /* se_device of every array that run is given */
  int32_t isa, threads; /* CPU only, as se_exec's */
  int32_t width, height, channels; /* of the picture; 3 or 4 channels */
  int32_t nv12;         /* not 0: pictures come as NV12 */
  int32_t standard;     /* se_standard, of NV12 */
  int32_t full_range;   /* of NV12 */
  int32_t map_width, map_height; /* of nearness */
  int32_t widen;        /* near objects grow by this many pixels, 0..16 */
  int32_t separate;     /* CUDA only; not 0: launches one after another instead of a graph, for a graph that you record */
} se_frame_config;

SE_API void se_frame_defaults(se_frame_config *config, int32_t width, int32_t height, int32_t channels);

/* message, if not null, gets a sentence when this fails. */
SE_API int32_t se_frame_create(const se_frame_config *config, se_frame **frame, char *message, size_t message_size);

/* On CUDA: after the work that was queued has run. Null is allowed. */
SE_API void se_frame_destroy(se_frame *frame);

/* Bytes of scratch memory. */
SE_API int64_t se_frame_bytes(const se_frame *frame);

/* The stereo picture's shape under these parameters. */
SE_API int32_t se_frame_shape(const se_frame *frame, const se_session_params *params, int32_t *height, int32_t *width,
                              int32_t *channels);

/* picture: uint8 [H, W, C], any strides; or with nv12 the luma, uint8 [H, W], and chroma: uint8 [ceil(H / 2), ceil(W / 2),
 * 2] (else null). nearness: float32 [map_height, map_width], 0 far .. 1 near. out: uint8 of se_frame_shape. params: every
 * layout but SE_LAYOUT_DEPTH; roll has to be 0. stream: CUDA only, a cudaStream_t. One call at a time. */
SE_API int32_t se_frame_run(se_frame *frame, const se_session_params *params, const se_array *picture,
                            const se_array *chroma, const se_array *nearness, const se_array *out, void *stream);

/* ---- frames that lie on the host, and a GPU that works on them --------------------------------------------- */

/* Lanes that take turns: one frame goes up while another is worked on and a third comes down, each on a stream of its own
 * through page-locked memory. On the CPU a frame is worked on in submit. */
typedef struct se_frame_pipe se_frame_pipe;

/* lanes: 1..8; three keep a GPU and both directions busy. config: of every lane. message as se_frame_create's. */
SE_API int32_t se_frame_pipe_create(const se_frame_config *config, int32_t lanes, se_frame_pipe **pipe, char *message,
                                    size_t message_size);

/* Waits for what is under way. Null is allowed. */
SE_API void se_frame_pipe_destroy(se_frame_pipe *pipe);

/* As se_frame_run's, on the host, and copied before this returns. SE_ERROR_BUSY while every lane holds a frame. */
SE_API int32_t se_frame_pipe_submit(se_frame_pipe *pipe, const se_session_params *params, const se_array *picture,
                                    const se_array *chroma, const se_array *nearness);

/* Waits for the oldest frame and copies its picture to out, on the host, of se_frame_shape under that frame's parameters
 * (SE_ERROR_BAD_SHAPE else, and it stays). SE_ERROR_BUSY when nothing was submitted. One thread may submit and another
 * wait. */
SE_API int32_t se_frame_pipe_wait(se_frame_pipe *pipe, const se_array *out);

#ifdef __cplusplus
}
#endif
#endif /* SECONDEYE_FRAME_H */
