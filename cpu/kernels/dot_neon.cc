#include "cpu/kernels/dot_neon.inl.h"

namespace pelton::cpu {

const DotTable& dot_neon() {
  return neon::kTable;
}

}  // namespace pelton::cpu
