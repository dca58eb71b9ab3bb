// From rows as a file holds them to the layout of weight_layout.h, on the device.
// Bytes: file_row_bytes read, packed_bytes written; runs at load only.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/weight_layout.h"

namespace pelton::cuda {

// The 16-bit format is made from any of these, rounded to the activations' type.
enum class SourceType : uint8_t { kBlocks, kF32, kF16, kBF16 };

struct RepackParams {
  WeightFormat format = WeightFormat::k16Bit;
  ElementType type = ElementType::kBF16;    // of k16Bit
  SourceType source = SourceType::kBlocks;  // kBlocks: the format's own, else k16Bit from floats
  const void* rows = nullptr;               // [num_rows, k] as in the file, back to back, device
  int64_t row_begin = 0;                    // where they go in the matrix; a multiple of 16
  int64_t num_rows = 0;                     // a multiple of 16, or up to the matrix's end
  int64_t k = 0;                            // a multiple of the format's file_block
  void* packed = nullptr;                   // the whole matrix
};

// Writes whole row tiles; rows beyond num_rows in the last one become zero.
cudaError_t repack(const RepackParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
