/* SPDX-License-Identifier: Apache-2.0
 *
 * The C interface of SecondEye's pixel kernels (C99).
 *
 * Pictures are described, never owned: the caller allocates everything, and no function keeps a pointer after it
 * returns (on CUDA: after the work queued on the given stream has run). Nothing here allocates memory for pixels,
 * throws, prints or aborts. Every function returns SE_OK or an error code; on an error no output is touched.
 *
 * Sign of disparity, everywhere: a left-view pixel at column x is seen at x - d in the right view, d in pixels;
 * larger is nearer. NaN and infinite disparity count as 0.
 */
#ifndef SECONDEYE_SECONDEYE_H
#define SECONDEYE_SECONDEYE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(SE_BUILD)
#define SE_API __declspec(dllexport)
#elif defined(_WIN32)
#define SE_API
#elif defined(__GNUC__)
#define SE_API __attribute__((visibility("default")))
#else
#define SE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SE_VERSION_MAJOR 0
#define SE_VERSION_MINOR 1
#define SE_VERSION_PATCH 0

#define SE_MAX_WIDTH 16384  /* widest picture that any op accepts, pixels */
#define SE_MAX_HEIGHT 16384 /* tallest picture that any op accepts, pixels */

typedef enum se_status {
  SE_OK = 0,
  SE_ERROR_NULL_POINTER = 1,  /* a required pointer was null */
  SE_ERROR_BAD_DTYPE = 2,     /* an array has an element type that this op does not take */
  SE_ERROR_BAD_SHAPE = 3,     /* a size is zero, over the limit, or does not match its partner's */
  SE_ERROR_BAD_STRIDE = 4,    /* strides or an address do not step by whole elements */
  SE_ERROR_BAD_PARAMETER = 5, /* a parameter is outside its range */
  SE_ERROR_NO_BACKEND = 6,    /* this build or this machine has no such backend */
  SE_ERROR_CUDA = 7,          /* the CUDA runtime refused the launch */
  SE_ERROR_OUT_OF_MEMORY = 8, /* scratch memory could not be had */
  SE_ERROR_BAD_ALIAS = 9,     /* an output overlaps an input or another output (columns of one canvas do not) */
  SE_ERROR_BUSY = 10,         /* sessions: no room, or no result, in the time allowed */
  SE_ERROR_CLOSED = 11,       /* sessions: it has ended */
  SE_ERROR_MODEL = 12,        /* sessions: the depth network cannot be had */
  SE_ERROR_DEVICE_LIMIT = 13, /* CUDA: the rows that this op holds at once do not fit into this device's shared memory */
  SE_ERROR_DEVICE_LOST = 14,  /* sessions: their GPU failed, and they have ended */
  SE_ERROR_FORKED = 15        /* sessions: this process was forked from theirs, whose threads it does not have */
} se_status;

typedef enum se_dtype { SE_UINT8 = 0, SE_UINT16 = 1, SE_FLOAT16 = 2, SE_FLOAT32 = 3, SE_INT32 = 4 } se_dtype;

typedef enum se_device { SE_CPU = 0, SE_CUDA = 1 } se_device;

/* Instruction sets of the CPU path. Every one returns the same bytes. SE_ISA_BLOCKS runs the bodies of the CUDA kernels
 * on the host, thread after thread: for tests on machines without a GPU. */
typedef enum se_isa {
  SE_ISA_AUTO = 0,
  SE_ISA_BASE = 1,
  SE_ISA_AVX2 = 2,
  SE_ISA_AVX512 = 3,
  SE_ISA_NEON = 4,
  SE_ISA_BLOCKS = 5
} se_isa;

/* A view of a picture or plane: element (y, x, c) lies at data + y*stride_y + x*stride_x + c*stride_c, in bytes.
 * HWC and CHW pictures are the same structure with other strides. A plane has channels == 1. */
typedef struct se_array {
  void *data;
  int32_t height, width, channels;
  int32_t dtype; /* se_dtype */
  int64_t stride_y, stride_x, stride_c;
} se_array;

/* Where and how an op runs. Zero-initialised means: CPU, every core, best instruction set. */
typedef struct se_exec {
  int32_t device;  /* se_device */
  int32_t threads; /* CPU only: 0 = one per core; results are equal for any count */
  int32_t isa;     /* CPU only: se_isa */
  int32_t reserved;
  void *stream; /* CUDA only: a cudaStream_t; null is the legacy default stream. The calling thread's current device must
                   be the one that stream and memory belong to. */
} se_exec;

SE_API const char *se_version(void);
SE_API const char *se_status_string(int32_t status);
SE_API int32_t se_cpu_isa_supported(int32_t isa); /* 1 when this build has it and this CPU runs it */
SE_API int32_t se_cpu_count(void);                /* cores that this process may use */
SE_API int32_t se_cuda_compiled(void);            /* 1 when this build carries CUDA kernels */
SE_API int32_t se_cuda_device_count(void);        /* 0 without a driver or a device */

/* ---- warp: a picture moved by its disparity, with the holes that opens ----------------------------------- */

typedef enum se_eye { SE_EYE_RIGHT = 0, SE_EYE_LEFT = 1 } se_eye;

typedef enum se_warp_law {
  SE_WARP_SURFACE = 0, /* neighbouring pixels are pieces of surface, torn where they land far apart */
  SE_WARP_NEAREST = 1  /* every pixel lands on trunc(x - d); the later one stays */
} se_warp_law;

typedef struct se_warp_params {
  int32_t eye;     /* se_eye: which view is made; the source is the other one (or the middle, with half disparity) */
  int32_t law;     /* se_warp_law */
  int32_t tear_q8; /* surface: landings further apart than this (1/256 pixel, 256..16384) are torn */
  int32_t wrap;    /* nearest: columns -W..-1 wrap round to W + column */
} se_warp_params;

/* source: uint8, float16 or float32 [H, W, C], C 1..4, HWC or CHW by its strides. disparity: float32 or float16
 * [H, W], pixels. out: like source. holes: uint8 [H, W], 255 where
 * nothing landed. map: int32 [H, W] or null; source position of each target pixel in 1/256 pixel, counted from the
 * left for the right view and from the right for the left view; -1 in holes. Class EXACT. */
SE_API int32_t se_warp(const se_exec *exec, const se_warp_params *params, const se_array *source,
                       const se_array *disparity, const se_array *out, const se_array *holes, const se_array *map);

#define SE_MAX_VIEWS 16

/* One of several views. scale_q8: its share of the disparity in 1/256, -256..256; over 0 is seen from the right of the
 * source, under 0 from the left (256 is se_warp's right view, -256 its left one, 128 and -128 a symmetric pair). */
typedef struct se_warp_view {
  int32_t scale_q8;
  se_array out, holes, map; /* as in se_warp; map.data may be null */
} se_warp_view;

/* Several views in one pass over the source, params->eye unused. Class EXACT. */
SE_API int32_t se_warp_views(const se_exec *exec, const se_warp_params *params, const se_array *source,
                             const se_array *disparity, int32_t count, const se_warp_view *views);

/* ---- fill: disocclusions painted from the background beside them ------------------------------------------ */

/* view, out: uint8 or uint16 [H, W, C], C 1..4; holes: uint8 [H, W], not 0 where to fill; map: se_warp's. Class EXACT.
 * out may be view itself: only holes are written then. */
SE_API int32_t se_fill(const se_exec *exec, int32_t eye, const se_array *view, const se_array *holes,
                       const se_array *map, const se_array *out);

/* ---- mask: where a model should paint ---------------------------------------------------------------------- */

typedef struct se_mask_params {
  int32_t eye;       /* se_eye: the view that the holes are of */
  int32_t close;     /* 0..4: pinholes inside holes up to twice this wide are closed */
  int32_t speck;     /* 0..4: holes thinner than 2 * speck + 1 pixels go */
  int32_t grow_far;  /* 0..64 pixels: how far a hole grows over the background beside it */
  int32_t grow_near; /* 0..64 pixels: the same, over the foreground */
  int32_t tall;      /* 0..64 pixels: the same, up and down */
} se_mask_params;

/* holes, map: se_warp's. out: uint8 [H, W]: 255 disocclusion, 128 hole at the frame's edge, 0 none. Class EXACT. */
SE_API int32_t se_inpaint_mask(const se_exec *exec, const se_mask_params *params, const se_array *holes,
                               const se_array *map, const se_array *out);

/* mask: uint8 [H, W]. out: uint8 [ceil(H / side), ceil(W / side)], side 1..256: 255 where a cell of side x side pixels
 * has any that is not 0, or (area != 0) the share of these, 0..255. Class EXACT. */
SE_API int32_t se_mask_cells(const se_exec *exec, int32_t side, int32_t area, const se_array *mask,
                             const se_array *out);

/* ---- blend: one picture over another by a mask, and a mask's soft border ------------------------------------ */

/* mask, out: uint8 [H, W]; radius 0..16: the share, 0..255, of the pixels within so many of each that are not 0.
 * Class EXACT. */
SE_API int32_t se_feather(const se_exec *exec, int32_t radius, const se_array *mask, const se_array *out);

/* base, over, out: uint8 [H, W, C], C 1..4; mask: uint8 [H, W], how much of `over` is taken: base where it is 0, over
 * where it is 255. Class EXACT. */
SE_API int32_t se_blend(const se_exec *exec, const se_array *base, const se_array *over, const se_array *mask,
                        const se_array *out);

/* ---- resample: a picture at another size, to bytes or to a network's tensor ------------------------------- */

/* Weights of one axis: output i takes inputs first[i] .. first[i] + count[i] - 1 with weights[i * stride + k], each
 * 0..16384, summing to 16384. The arrays lie where the pictures lie; on CUDA their values cannot be checked, and are
 * clamped so that nothing outside the source is read. */
typedef struct se_resample_axis {
  const int32_t *first, *count, *weights;
  int32_t outputs, stride;
} se_resample_axis;

/* source: uint8 [H, W, 1..4]. out: uint8 [h, w, C]. Class EXACT. */
SE_API int32_t se_resample(const se_exec *exec, const se_array *source, const se_resample_axis *x,
                           const se_resample_axis *y, const se_array *out);

/* source: uint8 [H, W, 1|3|4]. out: float32 or float16 with 3 channels, any strides (CHW as a network wants it); value =
 * grey level * 64 * gain + bias. Class EXACT. */
SE_API int32_t se_resample_tensor(const se_exec *exec, const se_array *source, const se_resample_axis *x,
                                  const se_resample_axis *y, const float gain[3], const float bias[3],
                                  const se_array *out);

/* ---- restore: a network's tensor as a picture ------------------------------------------------------------- */

/* source: float32 or float16 with 3 channels, any strides (CHW as a network gives it). out: uint8 [H, W, 3|4], equal size;
 * value = source * gain + bias, rounded half to even, clamped to 0..255, NaN is 0; a fourth channel becomes 255. Class EXACT. */
SE_API int32_t se_restore(const se_exec *exec, const float gain[3], const float bias[3], const se_array *source,
                          const se_array *out);

/* ---- upsample: disparity from the model's resolution to the picture's ------------------------------------- */

/* map: float32 [h, w], h * w at most 2^24; picture: uint8 [H, W, 3|4]; out: float32 [H, W]. threshold_q8: a window that
 * spans more than this (1/256 pixel) is an edge and follows the picture; negative: plain bilinear. labels: uint16 [H, W]
 * objects (0 is none) whose borders edges fall on, or null. Class EXACT. */
SE_API int32_t se_upsample(const se_exec *exec, int32_t threshold_q8, const se_array *map, const se_array *picture,
                           const se_array *labels, const se_array *out);

/* ---- widen: near objects grow outward --------------------------------------------------------------------- */

/* disparity, out: float32 [H, W]; radius 0..16 pixels; threshold_q8: the least step that counts. Class EXACT. */
SE_API int32_t se_widen(const se_exec *exec, int32_t radius, int32_t threshold_q8, const se_array *disparity,
                        const se_array *out);

/* ---- smooth: the course of edges --------------------------------------------------------------------------- */

/* disparity, out: float32 [H, W]; threshold_q8: the least span of a 5 x 5 window that counts as an edge, where its median
 * stands. Class EXACT. */
SE_API int32_t se_smooth(const se_exec *exec, int32_t threshold_q8, const se_array *disparity, const se_array *out);

/* ---- level: disparity at another strength and about another plane ------------------------------------------ */

/* disparity, out: float32 [H, W]; out = disparity * scale + offset, both finite. Class EXACT. */
SE_API int32_t se_level(const se_exec *exec, float scale, float offset, const se_array *disparity,
                        const se_array *out);

/* ---- nv12: a decoder's or camera's picture as RGB ---------------------------------------------------------- */

typedef enum se_standard { SE_BT601 = 0, SE_BT709 = 1, SE_BT2020 = 2 } se_standard;

/* luma: uint8 [H, W]; chroma: uint8 [ceil(H / 2), ceil(W / 2), 2]; full: not 0 where values span 0..255. out: uint8
 * [H, W, 3|4]; a fourth channel becomes 255. Class EXACT. */
SE_API int32_t se_nv12(const se_exec *exec, int32_t standard, int32_t full, const se_array *luma, const se_array *chroma,
                       const se_array *out);

/* ---- motion: where each block of a frame was in the frame before ------------------------------------------- */

/* now, before: uint8 [H, W]. start: int32 [ceil(H / 8), ceil(W / 8), 2] (dy, dx), or null for 0. radius 0..16 pixels about
 * it. out: int32 [ceil(H / 8), ceil(W / 8), 3]: dy, dx and the sum of absolute differences there. Class EXACT. */
SE_API int32_t se_motion(const se_exec *exec, int32_t radius, const se_array *now, const se_array *before,
                         const se_array *start, const se_array *out);

/* ---- anaglyph: both views in one picture, told apart by colour -------------------------------------------- */

/* left, right, out: uint8 [H, W, 3]; matrix: 3 x 6 in 1/4096, each |m| <= 65536. Class EXACT. */
SE_API int32_t se_anaglyph(const se_exec *exec, const int32_t matrix[18], const se_array *left, const se_array *right,
                           const se_array *out);

/* ---- pack: two views in one picture -------------------------------------------------------------------- */

typedef enum se_pack_layout {
  SE_PACK_SBS = 0, /* full side by side: [H, 2W], left view on the left */
  SE_PACK_TB = 1,  /* full top-bottom: [2H, W], left view on top */
  /* Of one view's size; the right view's pixel where the row, the column or their sum is odd: */
  SE_PACK_ROWS = 2,
  SE_PACK_COLUMNS = 3,
  SE_PACK_CHECKERBOARD = 4,
  /* Of one view's size too, of which the halved side has to be even; means of two pixels: */
  SE_PACK_HALF_SBS = 5, /* each view at half width, left view on the left */
  SE_PACK_HALF_TB = 6   /* each view at half height, left view on top */
} se_pack_layout;

/* left, right: uint8 [H, W, C], C 1..4, equal shapes. out: uint8 of the layout's size. Class EXACT. */
SE_API int32_t se_pack(const se_exec *exec, int32_t layout, const se_array *left, const se_array *right,
                       const se_array *out);

#ifdef __cplusplus
}
#endif
#endif /* SECONDEYE_SECONDEYE_H */
