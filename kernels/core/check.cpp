// SPDX-License-Identifier: Apache-2.0
#include "core/check.h"

#include <cstdio>

namespace se {

int32_t dtype_size(int32_t dtype) {
  switch (dtype) {
    case SE_UINT8: return 1;
    case SE_UINT16:
    case SE_FLOAT16: return 2;
    case SE_FLOAT32:
    case SE_INT32: return 4;
    default: return 0;
  }
}

int32_t check_array(const se_array* a, uint32_t dtype_mask, int32_t min_channels, int32_t max_channels,
                    int32_t max_side) {
  if (a == nullptr || a->data == nullptr) return SE_ERROR_NULL_POINTER;
  const int32_t size = dtype_size(a->dtype);
  if (size == 0 || (dtype_mask & (1u << a->dtype)) == 0) return SE_ERROR_BAD_DTYPE;
  if (a->height < 1 || a->width < 1 || a->height > max_side || a->width > max_side) return SE_ERROR_BAD_SHAPE;
  if (a->channels < min_channels || a->channels > max_channels) return SE_ERROR_BAD_SHAPE;
  if (a->stride_y % size != 0 || a->stride_x % size != 0 || a->stride_c % size != 0) return SE_ERROR_BAD_STRIDE;
  if (reinterpret_cast<uintptr_t>(a->data) % static_cast<uintptr_t>(size) != 0) return SE_ERROR_BAD_STRIDE;
  return SE_OK;
}

int32_t check_plane(const se_array* a, int32_t dtype, const se_array& like) {
  const int32_t status = check_array(a, 1u << dtype, 1, 1);
  if (status != SE_OK) return status;
  return a->height == like.height && a->width == like.width ? SE_OK : SE_ERROR_BAD_SHAPE;
}

int32_t check_same_shape(const se_array& a, const se_array& b) {
  const bool same = a.height == b.height && a.width == b.width && a.channels == b.channels;
  return same ? SE_OK : SE_ERROR_BAD_SHAPE;
}

namespace {
void byte_range(const se_array& a, const char** lo, const char** hi) {
  const char* first = static_cast<const char*>(a.data);
  *lo = first;
  *hi = first + dtype_size(a.dtype);
  const int64_t steps[3] = {(a.height - 1) * a.stride_y, (a.width - 1) * a.stride_x, (a.channels - 1) * a.stride_c};
  for (const int64_t step : steps) (step < 0 ? *lo : *hi) += step;
}

// Whether rows of one pitch lie side by side in it, as two views on one canvas do.
bool side_by_side(const se_array& a, const se_array& b) {
  const int64_t pitch = a.stride_y < 0 ? -a.stride_y : a.stride_y;
  if (pitch == 0 || (b.stride_y != a.stride_y && b.stride_y != -a.stride_y)) return false;
  se_array row_a = a, row_b = b;
  row_a.height = row_b.height = 1;
  const char *a_lo, *a_hi, *b_lo, *b_hi;
  byte_range(row_a, &a_lo, &a_hi);
  byte_range(row_b, &b_lo, &b_hi);
  const int64_t apart = static_cast<int64_t>(reinterpret_cast<intptr_t>(b_lo) - reinterpret_cast<intptr_t>(a_lo)) % pitch;
  const int64_t after = apart < 0 ? apart + pitch : apart;  // from a row of a to the row of b that begins next
  return after >= a_hi - a_lo && after + (b_hi - b_lo) <= pitch;
}
}  // namespace

int32_t check_disjoint(const se_array& a, const se_array& b) {
  const char *a_lo, *a_hi, *b_lo, *b_hi;
  byte_range(a, &a_lo, &a_hi);
  byte_range(b, &b_lo, &b_hi);
  return (a_hi <= b_lo || b_hi <= a_lo || side_by_side(a, b)) ? SE_OK : SE_ERROR_BAD_ALIAS;
}

int32_t check_exec(const se_exec* exec) {
  if (exec == nullptr) return SE_ERROR_NULL_POINTER;
  if (exec->threads < 0 || exec->threads > 256) return SE_ERROR_BAD_PARAMETER;
  if (exec->device == SE_CPU) return se_cpu_isa_supported(exec->isa) != 0 ? SE_OK : SE_ERROR_NO_BACKEND;
  if (exec->device == SE_CUDA) return se_cuda_device_count() > 0 ? SE_OK : SE_ERROR_NO_BACKEND;
  return SE_ERROR_BAD_PARAMETER;
}

int32_t check_machine(const se_exec& exec, const char** why) {
  const int32_t status = check_exec(&exec);
  *why = status == SE_ERROR_BAD_PARAMETER ? "device has to be an se_device." : se_status_string(status);
  return status;
}

void say(char* message, size_t size, const char* text) {
  if (message != nullptr && size != 0) std::snprintf(message, size, "%s", text);
}

}  // namespace se
