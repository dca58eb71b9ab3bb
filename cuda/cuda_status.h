// The runtime's error codes as Status. Pure.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "core/status.h"

namespace pelton::cuda {

// "what: text (name)". RESOURCE_EXHAUSTED for memory, FAILED_PRECONDITION for a missing driver or
// card, INTERNAL otherwise.
Status cuda_status(cudaError_t error, std::string_view what);

}  // namespace pelton::cuda

#define PELTON_RETURN_IF_CUDA_ERROR(expression, what)                                 \
  do {                                                                                \
    if (const cudaError_t pelton_error = (expression); pelton_error != cudaSuccess) { \
      return ::pelton::cuda::cuda_status(pelton_error, what);                         \
    }                                                                                 \
  } while (false)
