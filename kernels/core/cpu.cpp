// SPDX-License-Identifier: Apache-2.0
#include "core/cpu.h"

namespace se {
namespace {

bool runs(int32_t isa) {
  switch (isa) {
    case SE_ISA_AUTO:
    case SE_ISA_BASE:
    case SE_ISA_BLOCKS: return true;
#if defined(SE_HAVE_X86_TABLES)
    case SE_ISA_AVX2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    case SE_ISA_AVX512:
      return runs(SE_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
#endif
#if defined(SE_HAVE_NEON_TABLE)
    case SE_ISA_NEON: return true;
#endif
    default: return false;
  }
}

const OpTable* best() {
#if defined(SE_HAVE_X86_TABLES)
  if (runs(SE_ISA_AVX512)) return table_avx512();
  if (runs(SE_ISA_AVX2)) return table_avx2();
#endif
#if defined(SE_HAVE_NEON_TABLE)
  return table_neon();
#endif
  return table_base();
}

}  // namespace

const OpTable& op_table(int32_t isa) {
  static const OpTable* const automatic = best();
  switch (isa) {
#if defined(SE_HAVE_X86_TABLES)
    case SE_ISA_AVX2: return *table_avx2();
    case SE_ISA_AVX512: return *table_avx512();
#endif
#if defined(SE_HAVE_NEON_TABLE)
    case SE_ISA_NEON: return *table_neon();
#endif
    case SE_ISA_BASE: return *table_base();
    default: return *automatic;
  }
}

}  // namespace se

extern "C" int32_t se_cpu_isa_supported(int32_t isa) { return se::runs(isa) ? 1 : 0; }
