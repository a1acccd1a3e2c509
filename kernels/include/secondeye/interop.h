/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory and semaphores of a Vulkan or Direct3D 12 renderer, and buffers and textures of an OpenGL one, for se_frame_run
 * (frame.h) on the same GPU (C99).
 *
 *   the renderer exports a buffer's memory (VK_KHR_external_memory_fd, or a D3D12 shared handle) and a timeline semaphore
 *   se_external_memory_import(fd, bytes, SE_HANDLE_FD, &memory)
 *   out.data = (char *)se_external_memory_data(memory) + offset
 *   each frame: se_external_wait(free, n, stream), se_frame_run(..., &out, stream), se_external_signal(done, n, stream)
 *
 * Buffers, not images: the ops write rows. A renderer copies the buffer into its image, or samples it. OpenGL's way, with
 * its context current:
 *   se_gl_register_texture(name, GL_TEXTURE_2D, &texture), once
 *   each frame: se_frame_run(..., &out, stream), se_gl_map(texture, stream), se_gl_write(texture, &out, stream), se_gl_unmap(texture, stream)
 * or without the copy into a pixel buffer (se_gl_register_buffer), whose pointer se_gl_data gives while it is mapped.
 *
 * Vulkan's side has run on a GPU (tests/session/interop.c); OpenGL's and Direct3D 12's are compiled and not proven.
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

/* A buffer or texture of OpenGL's, by its name; its context is current on the calling thread, and runs on CUDA's current
 * device. SE_ERROR_CUDA when OpenGL does not know it, SE_ERROR_NO_BACKEND without a GPU or where the context is on another. */
typedef struct se_gl_resource se_gl_resource;
SE_API int32_t se_gl_register_buffer(uint32_t buffer, se_gl_resource **resource);
SE_API int32_t se_gl_register_texture(uint32_t texture, uint32_t target, se_gl_resource **resource);
SE_API void se_gl_release(se_gl_resource *resource); /* null is allowed */

/* Between map and unmap it is CUDA's: OpenGL's earlier work is done first, and its later work waits for the stream. */
SE_API int32_t se_gl_map(se_gl_resource *resource, void *stream);
SE_API int32_t se_gl_unmap(se_gl_resource *resource, void *stream);

/* A mapped buffer's device pointer and size; null for a texture or while it is not mapped. */
SE_API void *se_gl_data(const se_gl_resource *resource, uint64_t *bytes);

/* Copies a picture on the device into a mapped texture's first level (or out of it): uint8 [H, W, 4], rows packed, no
 * larger than the texture, whose format is GL_RGBA8. */
SE_API int32_t se_gl_write(se_gl_resource *texture, const se_array *picture, void *stream);
SE_API int32_t se_gl_read(se_gl_resource *texture, const se_array *picture, void *stream);

#ifdef __cplusplus
}
#endif
#endif /* SECONDEYE_INTEROP_H */
