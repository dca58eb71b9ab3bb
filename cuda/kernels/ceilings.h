// What a card can do at most, measured by kernels that do nothing else: bytes moved, matrix
// instructions. Beside every figure stands the ceiling of the same run.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

// Reads `bytes` once, 16 bytes a lane; writes them to `to` where it is not null. `sink` gets a word
// that depends on what was read, so that nothing is left out. Bytes: `bytes`, twice with `to`.
struct MoveBytesParams {
  const void* from = nullptr;  // 16-byte aligned, as `to`
  void* to = nullptr;
  int64_t bytes = 0;  // a multiple of 16
  uint32_t* sink = nullptr;
  int blocks = 0;  // 0: as many as fill the card
};
cudaError_t move_bytes(const MoveBytesParams& params, cudaStream_t stream);

// Operations of one call of mma_rate: every warp of every block runs `rounds` of kMmaChains
// independent m16n8k16 products.
inline constexpr int kMmaChains = 8;
inline constexpr int kMmaWarps = 8;
constexpr int64_t mma_rate_operations(int blocks, int rounds) {
  return int64_t{blocks} * kMmaWarps * rounds * kMmaChains * 2 * 16 * 8 * 16;
}
// `sink`: [blocks] f32.
cudaError_t mma_rate(ElementType type, int blocks, int rounds, float* sink, cudaStream_t stream);

}  // namespace pelton::cuda
