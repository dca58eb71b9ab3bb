// Whether this binary was compiled for the card at hand. Moves nothing.
#pragma once

#include <cuda_runtime_api.h>

namespace pelton::cuda {

// cudaErrorNoKernelImageForDevice: it holds neither machine code nor PTX that the current card
// runs. Another error is the runtime's.
cudaError_t has_code_for_card();

}  // namespace pelton::cuda
