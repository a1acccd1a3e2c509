// SPDX-License-Identifier: Apache-2.0
// How a picture is to look, from Python's dict.
#pragma once
#include <pybind11/stl.h>

#include "secondeye/session.h"

namespace se_py {

inline void read_params(const pybind11::dict& options, se_session_params* params) {
  const auto has = [&](const char* name) { return options.contains(name); };
  if (has("strength")) params->strength = options["strength"].cast<float>();
  if (has("convergence")) params->convergence = options["convergence"].cast<float>();
  if (has("roll")) params->roll = options["roll"].cast<float>();
  if (has("layout")) params->layout = options["layout"].cast<int32_t>();
  if (has("both")) params->both = options["both"].cast<bool>() ? 1 : 0;
  if (has("swap")) params->swap = options["swap"].cast<bool>() ? 1 : 0;
  if (has("fill")) params->fill = options["fill"].cast<bool>() ? 1 : 0;
  if (has("anaglyph")) {
    const auto matrix = options["anaglyph"].cast<std::array<int32_t, 18>>();
    std::copy(matrix.begin(), matrix.end(), params->anaglyph);
  }
}

}  // namespace se_py
