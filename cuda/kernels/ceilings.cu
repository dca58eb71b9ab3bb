#include "cuda/kernels/ceilings.h"

#include "cuda/kernels/device.h"
#include "cuda/kernels/primitives.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;  // 16-byte loads of a thread under way at once

__global__ void __launch_bounds__(kThreads) move_bytes_kernel(MoveBytesParams p) {
  const int64_t vectors = p.bytes / 16;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  const auto* from = static_cast<const uint4*>(p.from);
  auto* to = static_cast<uint4*>(p.to);
  uint32_t seen = 0;
  int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; at + (kInFlight - 1) * stride < vectors; at += kInFlight * stride) {
    uint4 x[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) x[i] = load16_streaming(from + at + i * stride);
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      seen ^= x[i].x ^ x[i].y ^ x[i].z ^ x[i].w;
      if (to != nullptr) store16(to + at + i * stride, x[i]);
    }
  }
  for (; at < vectors; at += stride) {
    const uint4 x = load16_streaming(from + at);
    seen ^= x.x ^ x.y ^ x.z ^ x.w;
    if (to != nullptr) store16(to + at, x);
  }
  if (seen == 0x9E3779B9u) *p.sink = seen;  // hardly ever, which the compiler cannot know
}

template <class T>
__global__ void __launch_bounds__(kMmaWarps * 32) mma_rate_kernel(int rounds, float* sink) {
  float sums[kMmaChains][4] = {};
  const uint32_t a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3};
  const uint32_t b[2] = {threadIdx.x + 4, threadIdx.x + 5};
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kMmaChains; ++i) mma_m16n8k16<T>(sums[i], a, b);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kMmaChains; ++i) sum += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
  if (threadIdx.x == 0) sink[blockIdx.x] = sum;
}

}  // namespace

cudaError_t move_bytes(const MoveBytesParams& params, cudaStream_t stream) {
  constexpr int kBlocksOfACard = 132 * 8;
  if (params.bytes < 0 || params.bytes % 16 != 0 || params.sink == nullptr) {
    return cudaErrorInvalidValue;
  }
  if (params.bytes == 0) return cudaSuccess;
  const int blocks = params.blocks > 0 ? params.blocks : kBlocksOfACard;
  return launch(move_bytes_kernel, dim3(blocks), dim3(kThreads), 0, stream, params);
}

cudaError_t mma_rate(ElementType type, int blocks, int rounds, float* sink, cudaStream_t stream) {
  if (blocks < 1 || rounds < 0) return cudaErrorInvalidValue;
  return launch(
      type == ElementType::kBF16 ? mma_rate_kernel<__nv_bfloat16> : mma_rate_kernel<__half>,
      dim3(blocks), dim3(kMmaWarps * 32), 0, stream, rounds, sink);
}

}  // namespace pelton::cuda
