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

#if defined(_WIN32)
#define SE_API __declspec(dllexport)
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
  SE_ERROR_BAD_STRIDE = 4,    /* strides overlap, or do not step by whole elements */
  SE_ERROR_BAD_PARAMETER = 5, /* a parameter is outside its range */
  SE_ERROR_NO_BACKEND = 6,    /* this build or this machine has no such backend */
  SE_ERROR_CUDA = 7,          /* the CUDA runtime refused the launch */
  SE_ERROR_OUT_OF_MEMORY = 8, /* scratch memory could not be had */
  SE_ERROR_BAD_ALIAS = 9      /* an output overlaps an input */
} se_status;

typedef enum se_dtype { SE_UINT8 = 0, SE_UINT16 = 1, SE_FLOAT16 = 2, SE_FLOAT32 = 3, SE_INT32 = 4 } se_dtype;

typedef enum se_device { SE_CPU = 0, SE_CUDA = 1 } se_device;

/* Instruction sets of the CPU path. Every one returns the same bytes. */
typedef enum se_isa { SE_ISA_AUTO = 0, SE_ISA_BASE = 1, SE_ISA_AVX2 = 2, SE_ISA_AVX512 = 3, SE_ISA_NEON = 4 } se_isa;

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
  void *stream; /* CUDA only: a cudaStream_t; null is the legacy default stream */
} se_exec;

SE_API const char *se_version(void);
SE_API const char *se_status_string(int32_t status);
SE_API int32_t se_cpu_isa_supported(int32_t isa); /* 1 when this build has it and this CPU runs it */
SE_API int32_t se_cpu_count(void);                /* cores that this process may use */
SE_API int32_t se_cuda_compiled(void);            /* 1 when this build carries CUDA kernels */
SE_API int32_t se_cuda_device_count(void);        /* 0 without a driver or a device */

/* ---- pack: two views in one picture -------------------------------------------------------------------- */

typedef enum se_pack_layout {
  SE_PACK_SBS = 0, /* full side by side: [H, 2W], left view on the left */
  SE_PACK_TB = 1   /* full top-bottom: [2H, W], left view on top */
} se_pack_layout;

/* left, right: uint8 [H, W, C], C 1..4, equal shapes. out: uint8 of the layout's size. Class EXACT. */
SE_API int32_t se_pack(const se_exec *exec, int32_t layout, const se_array *left, const se_array *right,
                       const se_array *out);

#ifdef __cplusplus
}
#endif
#endif /* SECONDEYE_SECONDEYE_H */
