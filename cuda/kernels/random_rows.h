// Dummy weights made on the card: rows as a file would hold them, byte for byte what
// backend/random_blocks.h makes on the host. Bytes: the rows written once; runs at load only.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/repack.h"

namespace pelton::cuda {

struct RandomRowsParams {
  WeightFormat format = WeightFormat::k16Bit;
  SourceType source = SourceType::kBlocks;  // else floats of that type
  uint64_t seed = 0;
  float amplitude = 0;
  int64_t row_begin = 0;  // of the tensor: rows [row_begin, row_begin + num_rows)
  int64_t num_rows = 0;
  int64_t k = 0;         // a multiple of the format's file_block
  void* rows = nullptr;  // [num_rows, k] back to back
};
cudaError_t random_rows(const RandomRowsParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
