// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cstring>
#include <new>

#include "secondeye/interop.h"

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

}  // extern "C"
