// The emulator's cuBLASLt as the table of functions that the backend calls.
#pragma once

#include "cuda/cublaslt_api.h"

namespace pelton::cuda::test {

const CublasLt& emulated_cublaslt();

}  // namespace pelton::cuda::test
