#include "tests/cuda/emulator/traced_kernels.h"

#include "cuda/kernels/device.h"
#include "cuda/kernels/primitives.h"

namespace pelton::cuda {
namespace {

__global__ void copy_strided_kernel(const float* in, float* out, int stride) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[i * static_cast<unsigned>(stride)];
}

__global__ void copy_vectors_kernel(const float* in, float* out) {
  const unsigned i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  store16(out + i, load16_streaming(in + i));
}

template <class Word>
__global__ void shared_stride_kernel(float* out, int stride) {
  PELTON_DYNAMIC_SHARED(Word, words);
  const unsigned i = threadIdx.x * static_cast<unsigned>(stride);
  words[i] = Word{};
  __syncwarp();
  const Word value = words[i];
  out[threadIdx.x] = reinterpret_cast<const float&>(value);
}

// Each tile is written by all, then read by all; without the second barrier the next tile's writers
// overtake this one's readers.
__global__ void stage_tiles_kernel(const float* in, float* out, int tiles, bool barrier_at_end) {
  PELTON_SHARED(float, tile, 128);
  float sum = 0;
  for (int t = 0; t < tiles; ++t) {
    tile[threadIdx.x] = in[t * 128 + static_cast<int>(threadIdx.x)];
    __syncthreads();
    sum += tile[127 - threadIdx.x];
    if (barrier_at_end) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

__global__ void sum_by_last_block_kernel(const int* in, int* partial, unsigned* finished, int* out,
                                         bool with_fence, bool with_barrier) {
  PELTON_SHARED(bool, is_last, 1);
  partial[blockIdx.x * 64 + threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
  if (with_fence) __threadfence();
  if (with_barrier) __syncthreads();
  if (threadIdx.x == 0) is_last[0] = atomicAdd(finished, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last[0] || threadIdx.x != 0) return;
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x * 64; ++i) sum += partial[i];
  *out = sum;
}

__global__ void pipeline_kernel(const float* in, float* out, int stages, bool with_wait,
                                bool with_barrier) {
  PELTON_SHARED(float, ring, 2 * 256);
  const unsigned t = threadIdx.x;
  const auto issue = [&](int stage) {
    if (stage < stages) cp_async_16(ring + stage % 2 * 256 + 4 * t, in + stage * 256 + 4 * t);
    cp_async_commit();
  };
  issue(0);
  float sum = 0;
  for (int stage = 0; stage < stages; ++stage) {
    issue(stage + 1);
    if (with_wait) cp_async_wait<1>();
    if (with_barrier) __syncthreads();
    sum += ring[stage % 2 * 256 + static_cast<int>(255 - 4 * t)];
    __syncthreads();
  }
  out[t] = sum;
}

// Rows of 128 bytes; without the swizzle eight rows fall into the same banks.
__global__ void transpose_tile_kernel(const uint16_t* in, uint32_t* out, bool swizzled) {
  PELTON_SHARED(uint16_t, tile, 8 * 64);
  const unsigned lane = threadIdx.x;
  for (unsigned chunk = lane; chunk < 64; chunk += 32) {
    const unsigned row = chunk / 8;
    const unsigned column = swizzled ? chunk % 8 ^ row : chunk % 8;
    store16(tile + row * 64 + column * 8, load16(in + chunk * 8));
  }
  __syncwarp();
  const unsigned row = lane % 8;
  uint32_t d[1];
  for (unsigned column = 0; column < 8; ++column) {
    ldmatrix_x1(d, tile + row * 64 + (swizzled ? column ^ row : column) * 8);
    out[column * 32 + lane] = d[0];
  }
}

__global__ void increment_in_place_kernel(uint16_t* values, int count) {
  const auto n = static_cast<unsigned>(count);
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    values[i] = static_cast<uint16_t>(values[i] + 1);
  }
}

__global__ void multiply_often_kernel(float* out, int times) {
  const uint32_t a[4] = {};
  const uint32_t b[2] = {};
  float d[4] = {};
  for (int i = 0; i < times; ++i) mma_m16n8k16<__nv_bfloat16>(d, a, b);
  atomicAdd(out, d[0]);
}

__global__ void hand_over_kernel(int* out, bool named_barriers) {
  PELTON_SHARED(int, slot, 32);
  if (threadIdx.x < 32) {
    slot[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (named_barriers) named_barrier_arrive(1, 64);
  } else {
    if (named_barriers) named_barrier_sync(1, 64);
    out[threadIdx.x - 32] = slot[63 - threadIdx.x];
  }
}

__global__ void exchange_between_warps_kernel(int* out, bool with_barrier) {
  PELTON_SHARED(int, values, 64);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void exchange_within_warp_kernel(int* out, bool with_syncwarp) {
  PELTON_SHARED(int, values, 32);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (with_syncwarp) __syncwarp();
  out[threadIdx.x] = values[31 - threadIdx.x];
}

__global__ void all_blocks_write_kernel(int* out) {
  if (threadIdx.x == 0) *out = static_cast<int>(blockIdx.x);
}

__global__ void read_neighbour_block_kernel(int* values, int n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const int neighbour = values[(i + blockDim.x) % static_cast<unsigned>(n)];
  values[i] = neighbour;
}

__global__ void write_at_kernel(float* out, int index) {
  out[index] = 1;
}
__global__ void read_at_kernel(const float* in, float* out, int index) {
  out[0] = in[index];
}

__global__ void shared_write_at_kernel(float* out, int index) {
  PELTON_SHARED(float, values, 100);
  values[index] = 1;
  out[0] = values[index];
}

__global__ void shared_read_unwritten_kernel(float* out) {
  PELTON_SHARED(float, values, 64);
  if (threadIdx.x < 16) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void misaligned_float4_kernel(const float* in, float* out) {
  const float4 value = *reinterpret_cast<const float4*>(in + 1);
  *reinterpret_cast<float4*>(out) = value;
}

template <class Kernel, class... A>
cudaError_t go(Kernel kernel, unsigned blocks, unsigned threads, A... args) {
  return launch(kernel, blocks, threads, 0, nullptr, args...);
}

}  // namespace

cudaError_t copy_strided(const float* in, float* out, int stride, int threads) {
  return go(copy_strided_kernel, 1, static_cast<unsigned>(threads), in, out, stride);
}
cudaError_t copy_vectors(const float* in, float* out, int blocks) {
  return go(copy_vectors_kernel, static_cast<unsigned>(blocks), 64, in, out);
}
cudaError_t shared_stride(float* out, int stride, int words) {
  const auto kernel = words == 1   ? shared_stride_kernel<float>
                      : words == 2 ? shared_stride_kernel<float2>
                                   : shared_stride_kernel<float4>;
  const size_t bytes = 32 * static_cast<size_t>(stride * words) * 4;
  return launch(kernel, 1, 32, bytes, nullptr, out, stride);
}
cudaError_t stage_tiles(const float* in, float* out, int tiles, bool barrier_at_end) {
  return go(stage_tiles_kernel, 1, 128, in, out, tiles, barrier_at_end);
}
cudaError_t sum_by_last_block(const int* in, int* partial, unsigned* finished, int* out, int blocks,
                              bool with_fence, bool with_barrier) {
  return go(sum_by_last_block_kernel, static_cast<unsigned>(blocks), 64, in, partial, finished, out,
            with_fence, with_barrier);
}
cudaError_t pipeline(const float* in, float* out, int stages, bool with_wait, bool with_barrier) {
  return go(pipeline_kernel, 1, 64, in, out, stages, with_wait, with_barrier);
}
cudaError_t transpose_tile(const uint16_t* in, uint32_t* out, bool swizzled) {
  return go(transpose_tile_kernel, 1, 32, in, out, swizzled);
}
cudaError_t increment_in_place(uint16_t* values, int count) {
  return go(increment_in_place_kernel, 3, 96, values, count);
}
cudaError_t multiply_often(float* out, int times) {
  return go(multiply_often_kernel, 3, 64, out, times);
}
cudaError_t hand_over(int* out, bool named_barriers) {
  return go(hand_over_kernel, 1, 64, out, named_barriers);
}
cudaError_t exchange_between_warps(int* out, bool with_barrier) {
  return go(exchange_between_warps_kernel, 1, 64, out, with_barrier);
}
cudaError_t exchange_within_warp(int* out, bool with_syncwarp) {
  return go(exchange_within_warp_kernel, 1, 32, out, with_syncwarp);
}
cudaError_t all_blocks_write(int* out) {
  return go(all_blocks_write_kernel, 4, 32, out);
}
cudaError_t read_neighbour_block(int* values, int n) {
  return go(read_neighbour_block_kernel, 4, static_cast<unsigned>(n) / 4, values, n);
}
cudaError_t write_at(float* out, int index) {
  return go(write_at_kernel, 1, 1, out, index);
}
cudaError_t read_at(const float* in, float* out, int index) {
  return go(read_at_kernel, 1, 1, in, out, index);
}
cudaError_t shared_write_at(float* out, int index) {
  return go(shared_write_at_kernel, 1, 1, out, index);
}
cudaError_t shared_read_unwritten(float* out) {
  return go(shared_read_unwritten_kernel, 1, 64, out);
}
cudaError_t misaligned_float4(const float* in, float* out) {
  return go(misaligned_float4_kernel, 1, 1, in, out);
}

}  // namespace pelton::cuda
