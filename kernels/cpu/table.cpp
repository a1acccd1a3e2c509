// SPDX-License-Identifier: Apache-2.0
// Compiled once per instruction set: SE_ISA_NAMESPACE and the compiler's flags differ, the source does not.
// Include nothing from the C++ standard library here (see core/types.h).
#include "core/cpu.h"

#define SE_CONCAT_(a, b) a##b
#define SE_CONCAT(a, b) SE_CONCAT_(a, b)

namespace se {

const OpTable* SE_CONCAT(table_, SE_ISA_NAMESPACE)() {
  static const OpTable table = {
      SE_ISA_NAMESPACE::anaglyph_rows,
      SE_ISA_NAMESPACE::blend_rows,
      SE_ISA_NAMESPACE::cells_rows,
      SE_ISA_NAMESPACE::feather_rows,
      SE_ISA_NAMESPACE::fill_rows,
      SE_ISA_NAMESPACE::follow_rows,
      SE_ISA_NAMESPACE::grey_rows,
      SE_ISA_NAMESPACE::keep_rows,
      SE_ISA_NAMESPACE::lay_rows,
      SE_ISA_NAMESPACE::level_rows,
      SE_ISA_NAMESPACE::mask_rows,
      SE_ISA_NAMESPACE::motion_rows,
      SE_ISA_NAMESPACE::moves_rows,
      SE_ISA_NAMESPACE::nv12_rows,
      SE_ISA_NAMESPACE::pack_rows,
      SE_ISA_NAMESPACE::recall_rows,
      SE_ISA_NAMESPACE::resample_rows,
      SE_ISA_NAMESPACE::restore_rows,
      SE_ISA_NAMESPACE::smooth_rows,
      SE_ISA_NAMESPACE::upsample_cell_rows,
      SE_ISA_NAMESPACE::upsample_rows,
      SE_ISA_NAMESPACE::upsample_window_rows,
      SE_ISA_NAMESPACE::view_moves_rows,
      SE_ISA_NAMESPACE::warp_rows,
      SE_ISA_NAMESPACE::widen_rows,
  };
  return &table;
}

}  // namespace se
