// SPDX-License-Identifier: Apache-2.0
// Launchers of the CUDA kernels: one launch on the caller's stream, no allocation, no synchronisation.
#pragma once
#include "ops/pack.op.h"

namespace se {

int32_t cuda_pack(const PackArgs& args, void* stream);

}  // namespace se
