// Kernels compiled as the traced target is: sound ones with known traffic, and planted defects.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pelton::cuda {

// Sound.
cudaError_t copy_strided(const float* in, float* out, int stride, int threads);
cudaError_t copy_vectors(const float* in, float* out, int blocks);  // 16 bytes a thread
cudaError_t shared_stride(float* out, int stride, int words);       // words a thread: 1, 2, 4
cudaError_t stage_tiles(const float* in, float* out, int tiles, bool barrier_at_end);
cudaError_t sum_by_last_block(const int* in, int* partial, unsigned* finished, int* out, int blocks,
                              bool with_fence, bool with_barrier);
cudaError_t pipeline(const float* in, float* out, int stages, bool with_wait, bool with_barrier);
cudaError_t transpose_tile(const uint16_t* in, uint32_t* out, bool swizzled);  // ldmatrix
cudaError_t increment_in_place(uint16_t* values, int count);  // bf16-sized elements
cudaError_t multiply_often(float* out, int times);            // one mma a warp each time, two warps
cudaError_t hand_over(int* out, bool named_barriers);

// Planted.
cudaError_t exchange_between_warps(int* out, bool with_barrier);
cudaError_t exchange_within_warp(int* out, bool with_syncwarp);
cudaError_t all_blocks_write(int* out);
cudaError_t read_neighbour_block(int* values, int n);
cudaError_t write_at(float* out, int index);
cudaError_t read_at(const float* in, float* out, int index);
cudaError_t shared_write_at(float* out, int index);
cudaError_t shared_read_unwritten(float* out);
cudaError_t misaligned_float4(const float* in, float* out);

}  // namespace pelton::cuda
