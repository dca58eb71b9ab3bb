// out = x w^T + bias by tensor instructions over packed weights (weight_layout.h).
// A row of `out` is the same for every m: each output is kLinearRuns chains over k, added in order.
//
// Bytes: packed_bytes(n, k) of weights once for every 64 rows of x, x [m, k], out [m, n].
// Operations: 2 m n k. Up to 32 rows the weights' bytes over the card's bandwidth are the limit;
// beyond, its matrix rate (formats with a min spend one instruction more for each product of 2).
// Codes are exact in bf16 and f16, scales are applied to float32 sums: nothing is rounded but x.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/weight_layout.h"

namespace pelton::cuda {

struct LinearParams {
  WeightFormat format = WeightFormat::k16Bit;
  ElementType type = ElementType::kBF16;  // of x, of k16Bit weights, and of out unless out_f32
  const void* weights = nullptr;          // packed_bytes(format, n, k), 256-byte aligned
  const void* x = nullptr;                // [m, k]
  int64_t x_stride = 0;                   // elements; any, vectors where x and it allow 16 bytes
  const float* bias = nullptr;            // [n], or null
  void* out = nullptr;                    // [m, n]
  int64_t out_stride = 0;                 // elements
  bool out_f32 = false;
  int m = 0, n = 0, k = 0;  // k a multiple of the format's file_block
};

// m = 0 or n = 0 does nothing. x and out do not overlap.
cudaError_t linear(const LinearParams& params, cudaStream_t stream);

inline constexpr int kMaxLinearGroups = 32;

// Products by several matrices of one format and shape in one launch: rows [starts[g],
// starts[g + 1]) of x and out by weights[g]. How many rows each takes is the device's knowledge.
struct LinearGroups {
  const void* weights[kMaxLinearGroups] = {};  // packed as LinearParams::weights
  const int32_t* starts = nullptr;             // [count + 1] on the device, ascending
  int count = 0;                               // 1 .. kMaxLinearGroups
  int usual_rows = 0;  // that a group is expected to have: chooses the kernel, never the bits
};

// `each`: what the groups share, without weights and bias; m: the most rows that one may have.
// Bytes: the weights of the groups that have rows, as above. Blocks of rows that a group has not
// end at once.
cudaError_t grouped_linear(const LinearParams& each, const LinearGroups& groups,
                           cudaStream_t stream);

}  // namespace pelton::cuda
