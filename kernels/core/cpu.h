// SPDX-License-Identifier: Apache-2.0
// The table of row functions, one per instruction set; chosen at run time.
#pragma once
#include "ops/pack.op.h"

namespace se {

struct OpTable {
  void (*pack_rows)(const PackArgs& args, int32_t y0, int32_t y1);
};

// isa: a supported se_isa; SE_ISA_AUTO gives the best.
const OpTable& op_table(int32_t isa);

const OpTable* table_base();
const OpTable* table_avx2();
const OpTable* table_avx512();
const OpTable* table_neon();

}  // namespace se
