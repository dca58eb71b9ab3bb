// What a library's fp8 product takes in place of the own kernels' operands: rows of e4m3, back to
// back, with a float32 scale for each 128 of k ([k / 128, rows]: the rows of one group are
// neighbours). Limit of both: memory bandwidth.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

inline constexpr int kFp8Group = 128;

// q = e4m3(x / scale), scale = the group's largest magnitude / 448 (1 where all are zero).
// Bytes: 3 an element.
struct QuantizeFp8Params {
  ElementType type = ElementType::kBF16;
  const void* x = nullptr;   // [rows, k], 8-byte aligned
  int64_t x_stride = 0;      // elements, a multiple of 4
  uint8_t* codes = nullptr;  // [rows, k]
  float* scales = nullptr;   // [k / 128, rows]
  int rows = 0;
  int k = 0;  // a multiple of 128
};
cudaError_t quantize_fp8(const QuantizeFp8Params& params, cudaStream_t stream);

// The codes and scales of a kF8_128 matrix as they were before repacking. Bytes: 2 an element.
struct UnpackFp8Params {
  const void* packed = nullptr;  // weight_layout.h
  uint8_t* codes = nullptr;      // [n, k], 8-byte aligned
  float* scales = nullptr;       // [k / 128, n]
  int n = 0;
  int k = 0;  // a multiple of 128
};
cudaError_t unpack_fp8(const UnpackFp8Params& params, cudaStream_t stream);

}  // namespace pelton::cuda
