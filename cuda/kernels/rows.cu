#include "cuda/kernels/rows.h"

#include "cuda/kernels/row_access.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 256;

// `bytes` from source to target by the block, Unit by Unit.
template <class Unit>
__device__ __forceinline__ void copy_row(char* target, const char* source, int64_t bytes) {
  for (int64_t at = threadIdx.x * sizeof(Unit); at < bytes; at += kThreads * sizeof(Unit)) {
    if constexpr (sizeof(Unit) == 16) {
      store16(target + at, load16(source + at));
    } else {
      *reinterpret_cast<Unit*>(target + at) = *reinterpret_cast<const Unit*>(source + at);
    }
  }
}

template <class Unit>
__global__ void __launch_bounds__(kThreads) gather_rows_kernel(GatherRowsParams p) {
  const int64_t row = blockIdx.x;
  copy_row<Unit>(static_cast<char*>(p.out) + row * p.out_stride_bytes,
                 static_cast<const char*>(p.x) + p.index[row] * p.x_stride_bytes, p.row_bytes);
}

// One block copies kCopyBytes of one KV block.
constexpr int64_t kCopyBytes = 32768;
__global__ void __launch_bounds__(kThreads) copy_blocks_kernel(CopyBlocksParams p) {
  const int64_t from = p.pairs[2 * blockIdx.x], to = p.pairs[2 * blockIdx.x + 1];
  const int64_t begin = blockIdx.y * kCopyBytes;
  const int64_t left = p.block_bytes - begin;
  char* cache = static_cast<char*>(p.cache) + begin;
  copy_row<uint4>(cache + to * p.block_bytes, cache + from * p.block_bytes,
                  left < kCopyBytes ? left : kCopyBytes);
}

template <class T>
__global__ void __launch_bounds__(kThreads) pool_kernel(PoolParams p) {
  PELTON_SHARED(float, partial, kThreads / 32);
  const int sequence = static_cast<int>(blockIdx.x);
  int begin = p.starts[sequence], end = p.starts[sequence + 1];
  if (p.kind == PoolingKind::kFirst) end = end < begin + 1 ? end : begin + 1;
  if (p.kind == PoolingKind::kLast) begin = begin > end - 1 ? begin : end - 1;
  float* out = p.out + sequence * p.out_stride;
  const float count = end > begin ? static_cast<float>(end - begin) : 1.0F;
  float squares = 0;
  for (int col = static_cast<int>(threadIdx.x); col < p.cols; col += kThreads) {
    float sum = 0;
    for (int64_t row = begin; row < end; ++row) {
      sum += Element<T>::to_float(static_cast<const T*>(p.x)[row * p.x_stride + col]);
    }
    const float value = sum / count;
    squares += value * value;
    out[col] = value;
  }
  if (!p.normalize) return;
  const float length = sqrtf(block_sum<kThreads>(squares, partial));
  if (length == 0) return;
  for (int col = static_cast<int>(threadIdx.x); col < p.cols; col += kThreads) out[col] /= length;
}

}  // namespace

cudaError_t gather_rows(const GatherRowsParams& p, cudaStream_t stream) {
  if (p.rows < 0 || p.row_bytes < 0) return cudaErrorInvalidValue;
  if (p.rows == 0 || p.row_bytes == 0) return cudaSuccess;
  const int64_t sizes = p.row_bytes | p.x_stride_bytes | p.out_stride_bytes |
                        static_cast<int64_t>(reinterpret_cast<uintptr_t>(p.x)) |
                        static_cast<int64_t>(reinterpret_cast<uintptr_t>(p.out));
  return launch(sizes % 16 == 0  ? gather_rows_kernel<uint4>
                : sizes % 2 == 0 ? gather_rows_kernel<uint16_t>
                                 : gather_rows_kernel<uint8_t>,
                dim3(p.rows), dim3(kThreads), 0, stream, p);
}

cudaError_t copy_blocks(const CopyBlocksParams& p, cudaStream_t stream) {
  constexpr int64_t kMostBytes = kCopyBytes * 65535;  // a grid's y
  if (p.num_pairs < 0 || p.block_bytes < 0 || p.block_bytes > kMostBytes ||
      p.block_bytes % 16 != 0 || !aligned16(p.cache)) {
    return cudaErrorInvalidValue;
  }
  if (p.num_pairs == 0 || p.block_bytes == 0) return cudaSuccess;
  return launch(copy_blocks_kernel, dim3(p.num_pairs, ceil_div(p.block_bytes, kCopyBytes)),
                dim3(kThreads), 0, stream, p);
}

cudaError_t pool(const PoolParams& p, cudaStream_t stream) {
  if (p.sequences < 0 || p.cols < 0) return cudaErrorInvalidValue;
  if (p.sequences == 0 || p.cols == 0) return cudaSuccess;
  return launch(p.type == ElementType::kBF16 ? pool_kernel<__nv_bfloat16> : pool_kernel<__half>,
                dim3(p.sequences), dim3(kThreads), 0, stream, p);
}

}  // namespace pelton::cuda
