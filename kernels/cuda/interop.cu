// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cstring>
#include <new>

#include "core/check.h"
#include "secondeye/interop.h"

// Of cuda_gl_interop.h, which wants OpenGL's own headers for two names of unsigned int.
extern "C" cudaError_t CUDARTAPI cudaGraphicsGLRegisterBuffer(cudaGraphicsResource** resource, unsigned int buffer, unsigned int flags);
extern "C" cudaError_t CUDARTAPI cudaGraphicsGLRegisterImage(cudaGraphicsResource** resource, unsigned int image, unsigned int target,
                                                             unsigned int flags);
extern "C" cudaError_t CUDARTAPI cudaGLGetDevices(unsigned int* count, int* devices, unsigned int most, int list);

struct se_gl_resource {
  cudaGraphicsResource* resource;
  bool texture;
  bool mapped = false;
  void* data = nullptr;       // of a mapped buffer
  size_t bytes = 0;
  cudaArray_t array = nullptr;  // of a mapped texture
};

struct se_external_memory {
  cudaExternalMemory_t memory;
  void* data;
};

struct se_external_semaphore {
  cudaExternalSemaphore_t semaphore;
};

namespace {

int32_t status_of(cudaError_t error) {
  if (error == cudaSuccess) return SE_OK;
  (void)cudaGetLastError();  // answered here; a later launch should not report it
  return error == cudaErrorMemoryAllocation ? SE_ERROR_OUT_OF_MEMORY : SE_ERROR_CUDA;
}

template <typename Desc>
void put_handle(Desc& desc, intptr_t handle, int32_t kind) {
  if (kind == SE_HANDLE_FD)
    desc.handle.fd = static_cast<int>(handle);
  else
    desc.handle.win32.handle = reinterpret_cast<void*>(handle);
}

// Whether the context that is current on this thread may be on the current GPU: what is registered from another one fails
// only when it is mapped.
bool gl_is_here() {
  constexpr int kAll = 1;  // cudaGLDeviceListAll
  int current = 0, devices[16];
  unsigned int count = 0;
  const cudaError_t error = cudaGLGetDevices(&count, devices, 16, kAll);
  if (error == cudaSuccess && cudaGetDevice(&current) == cudaSuccess) {
    for (unsigned int k = 0; k < count && k < 16; ++k)
      if (devices[k] == current) return true;
    return false;
  }
  (void)cudaGetLastError();
  return error != cudaErrorNoDevice;
}

int32_t gl_made(cudaError_t error, cudaGraphicsResource* resource, bool texture, se_gl_resource** to) {
  SE_TRY(status_of(error));
  *to = new (std::nothrow) se_gl_resource{resource, texture};
  if (*to != nullptr) return SE_OK;
  (void)cudaGraphicsUnregisterResource(resource);
  return SE_ERROR_OUT_OF_MEMORY;
}

int32_t gl_copy(se_gl_resource* texture, const se_array* picture, bool write, void* stream) {
  if (texture == nullptr) return SE_ERROR_NULL_POINTER;
  SE_TRY(se::check_array(picture, 1u << SE_UINT8, 4, 4));
  if (!texture->texture || texture->array == nullptr) return SE_ERROR_BAD_PARAMETER;
  if (picture->stride_c != 1 || picture->stride_x != 4 || picture->stride_y < int64_t{4} * picture->width) return SE_ERROR_BAD_STRIDE;
  cudaExtent extent{};
  cudaChannelFormatDesc format{};
  unsigned int flags = 0;
  SE_TRY(status_of(cudaArrayGetInfo(&format, &extent, &flags, texture->array)));
  if (format.x != 8 || format.y != 8 || format.z != 8 || format.w != 8) return SE_ERROR_BAD_DTYPE;
  const auto width = static_cast<size_t>(picture->width), height = static_cast<size_t>(picture->height);
  if (width > extent.width || height > extent.height) return SE_ERROR_BAD_SHAPE;
  const auto pitch = static_cast<size_t>(picture->stride_y);
  const auto queue = static_cast<cudaStream_t>(stream);
  if (write)
    return status_of(cudaMemcpy2DToArrayAsync(texture->array, 0, 0, picture->data, pitch, 4 * width, height, cudaMemcpyDeviceToDevice, queue));
  return status_of(cudaMemcpy2DFromArrayAsync(picture->data, pitch, texture->array, 0, 0, 4 * width, height, cudaMemcpyDeviceToDevice, queue));
}

bool known(int32_t kind) { return kind >= SE_HANDLE_FD && kind <= SE_HANDLE_D3D12; }

}  // namespace

extern "C" {

int32_t se_external_memory_import(intptr_t handle, uint64_t bytes, int32_t kind, se_external_memory** memory) {
  if (memory == nullptr) return SE_ERROR_NULL_POINTER;
  *memory = nullptr;
  if (!known(kind) || bytes == 0) return SE_ERROR_BAD_PARAMETER;
  if (se_cuda_device_count() == 0) return SE_ERROR_NO_BACKEND;
  static const cudaExternalMemoryHandleType types[] = {cudaExternalMemoryHandleTypeOpaqueFd, cudaExternalMemoryHandleTypeOpaqueWin32,
                                                       cudaExternalMemoryHandleTypeD3D12Resource};
  cudaExternalMemoryHandleDesc desc;
  std::memset(&desc, 0, sizeof desc);
  desc.type = types[kind];
  desc.size = bytes;
  if (kind == SE_HANDLE_D3D12) desc.flags = cudaExternalMemoryDedicated;
  put_handle(desc, handle, kind);
  cudaExternalMemory_t imported;
  int32_t status = status_of(cudaImportExternalMemory(&imported, &desc));
  if (status != SE_OK) return status;
  cudaExternalMemoryBufferDesc buffer;
  std::memset(&buffer, 0, sizeof buffer);
  buffer.size = bytes;
  void* data = nullptr;
  status = status_of(cudaExternalMemoryGetMappedBuffer(&data, imported, &buffer));
  se_external_memory* made = status == SE_OK ? new (std::nothrow) se_external_memory{imported, data} : nullptr;
  if (made == nullptr) {
    if (data != nullptr) (void)cudaFree(data);
    (void)cudaDestroyExternalMemory(imported);
    return status != SE_OK ? status : SE_ERROR_OUT_OF_MEMORY;
  }
  *memory = made;
  return SE_OK;
}

void* se_external_memory_data(const se_external_memory* memory) { return memory == nullptr ? nullptr : memory->data; }

void se_external_memory_release(se_external_memory* memory) {
  if (memory == nullptr) return;
  (void)cudaFree(memory->data);
  (void)cudaDestroyExternalMemory(memory->memory);
  delete memory;
}

int32_t se_external_semaphore_import(intptr_t handle, int32_t kind, se_external_semaphore** semaphore) {
  if (semaphore == nullptr) return SE_ERROR_NULL_POINTER;
  *semaphore = nullptr;
  if (!known(kind)) return SE_ERROR_BAD_PARAMETER;
  if (se_cuda_device_count() == 0) return SE_ERROR_NO_BACKEND;
  static const cudaExternalSemaphoreHandleType types[] = {cudaExternalSemaphoreHandleTypeTimelineSemaphoreFd,
                                                          cudaExternalSemaphoreHandleTypeTimelineSemaphoreWin32,
                                                          cudaExternalSemaphoreHandleTypeD3D12Fence};
  cudaExternalSemaphoreHandleDesc desc;
  std::memset(&desc, 0, sizeof desc);
  desc.type = types[kind];
  put_handle(desc, handle, kind);
  cudaExternalSemaphore_t imported;
  const int32_t status = status_of(cudaImportExternalSemaphore(&imported, &desc));
  if (status != SE_OK) return status;
  *semaphore = new (std::nothrow) se_external_semaphore{imported};
  if (*semaphore != nullptr) return SE_OK;
  (void)cudaDestroyExternalSemaphore(imported);
  return SE_ERROR_OUT_OF_MEMORY;
}

int32_t se_external_wait(se_external_semaphore* semaphore, uint64_t value, void* stream) {
  if (semaphore == nullptr) return SE_ERROR_NULL_POINTER;
  cudaExternalSemaphoreWaitParams params;
  std::memset(&params, 0, sizeof params);
  params.params.fence.value = value;
  return status_of(cudaWaitExternalSemaphoresAsync(&semaphore->semaphore, &params, 1, static_cast<cudaStream_t>(stream)));
}

int32_t se_external_signal(se_external_semaphore* semaphore, uint64_t value, void* stream) {
  if (semaphore == nullptr) return SE_ERROR_NULL_POINTER;
  cudaExternalSemaphoreSignalParams params;
  std::memset(&params, 0, sizeof params);
  params.params.fence.value = value;
  return status_of(cudaSignalExternalSemaphoresAsync(&semaphore->semaphore, &params, 1, static_cast<cudaStream_t>(stream)));
}

void se_external_semaphore_release(se_external_semaphore* semaphore) {
  if (semaphore == nullptr) return;
  (void)cudaDestroyExternalSemaphore(semaphore->semaphore);
  delete semaphore;
}

int32_t se_gl_register_buffer(uint32_t buffer, se_gl_resource** resource) {
  if (resource == nullptr) return SE_ERROR_NULL_POINTER;
  *resource = nullptr;
  if (se_cuda_device_count() == 0 || !gl_is_here()) return SE_ERROR_NO_BACKEND;
  cudaGraphicsResource* made = nullptr;
  return gl_made(cudaGraphicsGLRegisterBuffer(&made, buffer, cudaGraphicsRegisterFlagsNone), made, false, resource);
}

int32_t se_gl_register_texture(uint32_t texture, uint32_t target, se_gl_resource** resource) {
  if (resource == nullptr) return SE_ERROR_NULL_POINTER;
  *resource = nullptr;
  if (se_cuda_device_count() == 0 || !gl_is_here()) return SE_ERROR_NO_BACKEND;
  cudaGraphicsResource* made = nullptr;
  return gl_made(cudaGraphicsGLRegisterImage(&made, texture, target, cudaGraphicsRegisterFlagsNone), made, true, resource);
}

void se_gl_release(se_gl_resource* resource) {
  if (resource == nullptr) return;
  (void)cudaGraphicsUnregisterResource(resource->resource);
  delete resource;
}

int32_t se_gl_map(se_gl_resource* resource, void* stream) {
  if (resource == nullptr) return SE_ERROR_NULL_POINTER;
  if (resource->mapped) return SE_ERROR_BAD_PARAMETER;
  SE_TRY(status_of(cudaGraphicsMapResources(1, &resource->resource, static_cast<cudaStream_t>(stream))));
  resource->mapped = true;
  const int32_t status = status_of(resource->texture ? cudaGraphicsSubResourceGetMappedArray(&resource->array, resource->resource, 0, 0)
                                                     : cudaGraphicsResourceGetMappedPointer(&resource->data, &resource->bytes, resource->resource));
  if (status != SE_OK) (void)se_gl_unmap(resource, stream);
  return status;
}

int32_t se_gl_unmap(se_gl_resource* resource, void* stream) {
  if (resource == nullptr) return SE_ERROR_NULL_POINTER;
  if (!resource->mapped) return SE_ERROR_BAD_PARAMETER;
  resource->mapped = false;
  resource->data = nullptr;
  resource->bytes = 0;
  resource->array = nullptr;
  return status_of(cudaGraphicsUnmapResources(1, &resource->resource, static_cast<cudaStream_t>(stream)));
}

void* se_gl_data(const se_gl_resource* resource, uint64_t* bytes) {
  if (bytes != nullptr) *bytes = resource == nullptr ? 0 : resource->bytes;
  return resource == nullptr ? nullptr : resource->data;
}

int32_t se_gl_write(se_gl_resource* texture, const se_array* picture, void* stream) { return gl_copy(texture, picture, true, stream); }
int32_t se_gl_read(se_gl_resource* texture, const se_array* picture, void* stream) { return gl_copy(texture, picture, false, stream); }

}  // extern "C"
