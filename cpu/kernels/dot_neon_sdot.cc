// Compiled for processors with SDOT (Armv8.2 with dot products).
#include "cpu/kernels/dot_neon.inl.h"

namespace pelton::cpu {

const DotTable& dot_neon_sdot() {
  return neon::kTable;
}

}  // namespace pelton::cpu
