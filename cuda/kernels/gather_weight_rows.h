// Rows of a packed weight matrix as activations: the embedding.
// Bytes: the rows at the format's width (a sector holds two rows' codes, so twice that is fetched),
// out written once. No operations to speak of: the limit is the bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/weight_layout.h"

namespace pelton::cuda {

// out[i] = (w[rows[i]] + (add != null ? add[add_rows[i]] : 0)) * scale, in float32, rounded once.
struct WeightTable {
  WeightFormat format = WeightFormat::k16Bit;
  const void* weights = nullptr;
};
struct GatherWeightRowsParams {
  ElementType type = ElementType::kBF16;  // of out, and of tables in k16Bit
  WeightTable table;
  const int32_t* rows = nullptr;      // [count], each a row of the table
  WeightTable add;                    // learned positions; no weights: none
  const int32_t* add_rows = nullptr;  // [count]
  int count = 0;
  int k = 0;  // of both tables
  float scale = 1.0F;
  void* out = nullptr;     // [count, k]
  int64_t out_stride = 0;  // elements
};
cudaError_t gather_weight_rows(const GatherWeightRowsParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
