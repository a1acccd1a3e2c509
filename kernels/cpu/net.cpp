// SPDX-License-Identifier: Apache-2.0
// Compiled once per instruction set, like table.cpp, with flags of its own: AVX-512 here needs less of a processor.
#define SE_NET_TABLE
#include "ops/net.op.h"

#define SE_CONCAT_(a, b) a##b
#define SE_CONCAT(a, b) SE_CONCAT_(a, b)

namespace se {

const NetTable* SE_CONCAT(net_table_, SE_ISA_NAMESPACE)() {
  static const NetTable table = {SE_ISA_NAMESPACE::kNetTile, SE_ISA_NAMESPACE::point_tasks, SE_ISA_NAMESPACE::depth_tasks,
                                 SE_ISA_NAMESPACE::dense_tasks, SE_ISA_NAMESPACE::enlarge_tasks};
  return &table;
}

}  // namespace se
