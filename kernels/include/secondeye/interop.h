/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory and semaphores of a Vulkan or Direct3D 12 renderer, for se_frame_run (frame.h) on the same GPU (C99).
 *
 *   the renderer exports a buffer's memory (VK_KHR_external_memory_fd, or a D3D12 shared handle) and a timeline semaphore
 *   se_external_memory_import(fd, bytes, SE_HANDLE_FD, &memory)
 *   out.data = (char *)se_external_memory_data(memory) + offset
 *   each frame: se_external_wait(free, n, stream), se_frame_run(..., &out, stream), se_external_signal(done, n, stream)
 *
 * Buffers, not images: the ops write rows. A renderer copies the buffer into its image, or samples it.
 *
 * This is compiled against the CUDA runtime; it has not run on a GPU yet.
 */
#ifndef SECONDEYE_INTEROP_H
#define SECONDEYE_INTEROP_H

#include "secondeye/secondeye.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum se_handle {
  SE_HANDLE_FD = 0,    /* an opaque file descriptor, of Vulkan; it is CUDA's own after a successful import */
  SE_HANDLE_WIN32 = 1, /* an opaque handle, of Vulkan on Windows */
  SE_HANDLE_D3D12 = 2  /* a shared handle of a D3D12 committed resource, or of a fence */
} se_handle;

typedef struct se_external_memory se_external_memory;
typedef struct se_external_semaphore se_external_semaphore;

/* A buffer of so many bytes from the start of the memory. SE_ERROR_NO_BACKEND without a GPU. */
SE_API int32_t se_external_memory_import(intptr_t handle, uint64_t bytes, int32_t kind, se_external_memory **memory);
SE_API void *se_external_memory_data(const se_external_memory *memory); /* a device pointer */
SE_API void se_external_memory_release(se_external_memory *memory);     /* null is allowed */

/* A timeline semaphore, or a fence. */
SE_API int32_t se_external_semaphore_import(intptr_t handle, int32_t kind, se_external_semaphore **semaphore);
SE_API int32_t se_external_wait(se_external_semaphore *semaphore, uint64_t value, void *stream);
SE_API int32_t se_external_signal(se_external_semaphore *semaphore, uint64_t value, void *stream);
SE_API void se_external_semaphore_release(se_external_semaphore *semaphore);

#ifdef __cplusplus
}
#endif
#endif /* SECONDEYE_INTEROP_H */
