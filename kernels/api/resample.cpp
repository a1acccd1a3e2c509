// SPDX-License-Identifier: Apache-2.0
#include "core/run.h"
#include "cuda/launch.h"

using namespace se;

namespace {

int32_t check_axis(const se_resample_axis* axis, int32_t inputs, int32_t outputs, bool on_host) {
  if (axis == nullptr || axis->first == nullptr || axis->count == nullptr || axis->weights == nullptr)
    return SE_ERROR_NULL_POINTER;
  if (axis->outputs != outputs || axis->stride < 1) return SE_ERROR_BAD_SHAPE;
  for (int32_t i = 0; on_host && i < outputs; ++i) {
    const int32_t first = axis->first[i], count = axis->count[i];
    if (first < 0 || count < 1 || count > axis->stride || first > inputs - count) return SE_ERROR_BAD_PARAMETER;
    int32_t sum = 0;
    for (int32_t k = 0; k < count; ++k) {
      const int32_t w = axis->weights[int64_t{i} * axis->stride + k];
      if (w < 0 || w > 16384) return SE_ERROR_BAD_PARAMETER;
      sum += w;
    }
    if (sum != 16384) return SE_ERROR_BAD_PARAMETER;
  }
  return SE_OK;
}

ResampleTable table_of(const se_resample_axis& axis) {
  return ResampleTable{axis.first, axis.count, axis.weights, axis.stride};
}

// Whether every output is one input, or the mean of two, in order.
bool axis_is(const se_resample_axis& axis, int32_t taps) {
  for (int32_t i = 0; i < axis.outputs; ++i) {
    const int32_t* weights = axis.weights + int64_t{i} * axis.stride;
    if (axis.first[i] != taps * i || axis.count[i] < taps) return false;
    if (weights[0] != 16384 / taps || weights[taps - 1] != 16384 / taps) return false;  // the rest of the sum is 0
  }
  return true;
}

int32_t resample(const se_exec& exec, const se_array& source, const se_resample_axis* x, const se_resample_axis* y,
                 const se_array& out, ResampleArgs& args) {
  SE_TRY(check_axis(x, source.width, out.width, exec.device == SE_CPU));
  SE_TRY(check_axis(y, source.height, out.height, exec.device == SE_CPU));
  SE_TRY(check_disjoint(out, source));
  args.source = view_of<const uint8_t>(source);
  args.x = table_of(*x);
  args.y = table_of(*y);
  if (runs_blocks(exec)) return run_blocks(exec, args);
  args.halves_x = axis_is(*x, 2) && axis_is(*y, 1) ? 1 : 0;
  args.halves_y = axis_is(*x, 1) && axis_is(*y, 2) ? 1 : 0;
  // A mean of two costs next to nothing: larger pieces.
  const int32_t grain = args.halves_x != 0 || args.halves_y != 0 ? grain_of(out) : 4;
  return run_rows(exec, out.height, grain, args, op_table(exec.isa).resample_rows,
                  int64_t{4} * source.width * source.channels + 12);
}

}  // namespace

extern "C" int32_t se_resample(const se_exec* exec, const se_array* source, const se_resample_axis* x,
                               const se_resample_axis* y, const se_array* out) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_array(source, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_array(out, 1u << SE_UINT8, 1, 4));
  if (source->channels != out->channels) return SE_ERROR_BAD_SHAPE;
  ResampleArgs args{};
  args.bytes = view_of<uint8_t>(*out);
  return resample(*exec, *source, x, y, *out, args);
}

extern "C" int32_t se_resample_tensor(const se_exec* exec, const se_array* source, const se_resample_axis* x,
                                      const se_resample_axis* y, const float gain[3], const float bias[3],
                                      const se_array* out) {
  SE_TRY(check_exec(exec));
  SE_TRY(check_array(source, 1u << SE_UINT8, 1, 4));
  SE_TRY(check_array(out, 1u << SE_FLOAT32 | 1u << SE_FLOAT16, 3, 3));
  if (source->channels == 2) return SE_ERROR_BAD_SHAPE;
  if (gain == nullptr || bias == nullptr) return SE_ERROR_NULL_POINTER;
  ResampleArgs args{};
  args.tensor = view_of<float>(*out);
  args.half = out->dtype == SE_FLOAT16 ? 1 : 0;
  for (int32_t c = 0; c < 3; ++c) {
    args.gain[c] = gain[c];
    args.bias[c] = bias[c];
  }
  return resample(*exec, *source, x, y, *out, args);
}
