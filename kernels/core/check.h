// SPDX-License-Identifier: Apache-2.0
// Checks of what a caller handed over, made once at the C interface; the ops behind it trust their arguments.
#pragma once
#include "secondeye/secondeye.h"

namespace se {

int32_t dtype_size(int32_t dtype);

// A usable array of one of the dtypes in `dtype_mask` (bit 1 << dtype) with channels in [min_c, max_c].
int32_t check_array(const se_array* a, uint32_t dtype_mask, int32_t min_channels, int32_t max_channels,
                    int32_t max_side = SE_MAX_WIDTH);

// A plane (one channel) of one dtype with the same height and width as `like`.
int32_t check_plane(const se_array* a, int32_t dtype, const se_array& like);

// SE_OK when both have the same height, width and channels.
int32_t check_same_shape(const se_array& a, const se_array& b);

// SE_OK when no byte of `a` can be a byte of `b`: they lie apart, or side by side in rows of one pitch.
int32_t check_disjoint(const se_array& a, const se_array& b);

int32_t check_exec(const se_exec* exec);

// The same for the machine that a configuration names, whose threads have been looked at. why: a sentence, unless this is SE_OK.
int32_t check_machine(const se_exec& exec, const char** why);

inline bool between(float v, float low, float high) { return v >= low && v <= high; }  // false for NaN

// A sentence for a caller who brought room for one; it is cut where the room ends.
void say(char* message, size_t size, const char* text);

}  // namespace se

#define SE_TRY(expression)                     \
  do {                                         \
    const int32_t se_try_status = (expression); \
    if (se_try_status != SE_OK) return se_try_status; \
  } while (0)
