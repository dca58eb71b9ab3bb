// RMSNorm and LayerNorm with residual and post-norm in one pass over the row.
//
//   t = post ? norm(x, post) : x;  r = residual ? residual + t : t (stored back, rounded);
//   out = norm(r, pre), of the unrounded r. All of it in float32; the row stays in registers.
// A row's result is the same whatever the number of rows: sums run in an order fixed by `cols`.
//
// Bytes a row: 2 cols of x, 4 cols of residual (in and out), 2 cols of out; norm weights (4 cols
// each) are shared by all rows and stay in L2. Operations: about 8 cols. Limit: memory bandwidth.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

inline constexpr int kMaxNormCols = 32768;
inline constexpr int kMaxNarrowNormCols = 16384;  // where 16-byte accesses are not possible

struct NormScales {
  const float* weight = nullptr;  // [cols]; null: this norm is absent
  const float* bias = nullptr;    // [cols], or null
};

struct NormParams {
  ElementType type = ElementType::kBF16;  // of x, residual, out
  bool remove_mean = false;               // LayerNorm; else RMSNorm
  float eps = 1e-5F;
  const void* x = nullptr;   // [rows, cols]
  int64_t x_stride = 0;      // elements between rows, as all strides
  void* residual = nullptr;  // [rows, cols] in and out, or null
  int64_t residual_stride = 0;
  NormScales post;
  NormScales pre;
  void* out = nullptr;  // [rows, cols], may be x; unused where `pre` is absent
  int64_t out_stride = 0;
  int rows = 0;
  int cols = 0;  // 1 .. kMaxNormCols, else cudaErrorInvalidValue
};

// 16-byte accesses where cols is a multiple of 8 and all addresses and strides allow it.
cudaError_t norm(const NormParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
