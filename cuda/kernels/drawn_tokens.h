// Ids that a sampler left on the device become tokens of the next step.
// Bytes: 16 a pair. No operations; the limit is the launch.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pelton::cuda {

// tokens[pairs[2i]] = drawn[pairs[2i + 1]]
struct DrawnTokensParams {
  const int32_t* pairs = nullptr;  // [num_pairs, 2]
  int num_pairs = 0;
  const int32_t* drawn = nullptr;
  int32_t* tokens = nullptr;
};
cudaError_t drawn_tokens(const DrawnTokensParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
