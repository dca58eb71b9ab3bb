// Moving rows and blocks: out[r] = x[index[r]], copies of KV blocks, and one vector a sequence.
// No arithmetic but pooling's. Limit: memory bandwidth (each byte read once, written once).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

// Bytes: 2 row_bytes a row, and its index.
struct GatherRowsParams {
  const void* x = nullptr;
  int64_t x_stride_bytes = 0;
  const int32_t* index = nullptr;  // [rows], each a row of x
  void* out = nullptr;             // [rows]; not overlapping x
  int64_t out_stride_bytes = 0;
  int64_t row_bytes = 0;  // any; 16-byte accesses where everything is a multiple of 16
  int rows = 0;
};
cudaError_t gather_rows(const GatherRowsParams& params, cudaStream_t stream);

// KV block pairs[2i] to pairs[2i + 1], all layers in one run (kv_layout.h). No block is written by
// two pairs, none is both read and written. Bytes: 2 block_bytes a pair.
struct CopyBlocksParams {
  void* cache = nullptr;           // 16-byte aligned
  int64_t block_bytes = 0;         // a multiple of 16
  const int32_t* pairs = nullptr;  // [num_pairs, 2]
  int num_pairs = 0;
};
cudaError_t copy_blocks(const CopyBlocksParams& params, cudaStream_t stream);

enum class PoolingKind : uint8_t { kMean, kFirst, kLast };

// out[s] = the mean (summed in order), first or last of x's rows [starts[s], starts[s + 1]),
// divided by its length where `normalize`. An empty sequence gives zeros. Bytes: 2 cols a row, 4
// cols out.
struct PoolParams {
  ElementType type = ElementType::kBF16;  // of x
  PoolingKind kind = PoolingKind::kMean;
  bool normalize = false;
  const void* x = nullptr;          // [tokens, cols]
  int64_t x_stride = 0;             // elements
  const int32_t* starts = nullptr;  // [sequences + 1]
  float* out = nullptr;             // [sequences, cols]
  int64_t out_stride = 0;
  int sequences = 0;
  int cols = 0;
};
cudaError_t pool(const PoolParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
