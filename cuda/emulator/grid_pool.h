// Runs the blocks of a grid: here, or spread over a kept pool of host threads where the grid is
// large enough to pay for it. From any thread; one grid has the pool at a time, others run where
// they are.
#pragma once

#include "cuda/emulator/block_runner.h"

namespace pelton::cuda::emulator {

// False after a fault: the first one is in `fault`, and blocks that had not begun never ran.
bool run_blocks(const Grid& grid, const Schedule& schedule, Fault& fault);

}  // namespace pelton::cuda::emulator
