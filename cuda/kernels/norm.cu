#include "cuda/kernels/norm.h"

#include "cuda/kernels/row_access.h"

namespace pelton::cuda {
namespace {

// x = (x - mean) / sqrt(var + eps) * weight + bias, in place, for the row that the block holds.
template <int kWidth, int kPerThread, int kThreads>
__device__ __forceinline__ void normalize(float (&x)[kPerThread][kWidth], const NormParams& p,
                                          const NormScales& scales, float* partial) {
  float mean = 0;
  if (p.remove_mean) {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += x[j][i];
    }
    mean = block_sum<kThreads>(sum, partial) / static_cast<float>(p.cols);
  }
  float squares = 0;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int col = (j * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
    if (col >= p.cols) continue;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares += (x[j][i] - mean) * (x[j][i] - mean);
  }
  squares = block_sum<kThreads>(squares, partial + kThreads / 32);
  const float scale = 1.0F / sqrtf(squares / static_cast<float>(p.cols) + p.eps);
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int col = (j * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
    if (col >= p.cols) continue;
    float weight[kWidth], bias[kWidth] = {};
    load_elements<kWidth>(scales.weight + col, weight);
    if (scales.bias != nullptr) load_elements<kWidth>(scales.bias + col, bias);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[j][i] = (x[j][i] - mean) * scale * weight[i] + bias[i];
  }
}

template <class T, int kWidth, int kPerThread, int kThreads>
__global__ void __launch_bounds__(kThreads) norm_kernel(NormParams p) {
  PELTON_SHARED(float, post_partial, 2 * kThreads / 32);
  PELTON_SHARED(float, pre_partial, 2 * kThreads / 32);
  const int64_t row = blockIdx.x;
  const T* source = static_cast<const T*>(p.x) + row * p.x_stride;
  float x[kPerThread][kWidth];
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int col = (j * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
    if (col < p.cols) {
      load_elements<kWidth>(source + col, x[j]);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[j][i] = 0;
    }
  }
  if (p.post.weight != nullptr) {
    normalize<kWidth, kPerThread, kThreads>(x, p, p.post, post_partial);
  }
  if (p.residual != nullptr) {
    T* residual = static_cast<T*>(p.residual) + row * p.residual_stride;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int col = (j * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
      if (col >= p.cols) continue;
      float r[kWidth];
      load_elements<kWidth>(residual + col, r);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[j][i] += r[i];
      store_elements<kWidth>(residual + col, x[j]);
    }
  }
  if (p.pre.weight == nullptr) return;
  normalize<kWidth, kPerThread, kThreads>(x, p, p.pre, pre_partial);
  T* out = static_cast<T*>(p.out) + row * p.out_stride;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int col = (j * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
    if (col < p.cols) store_elements<kWidth>(out + col, x[j]);
  }
}

template <class T, int kWidth, int kPerThread, int kThreads>
cudaError_t run(const NormParams& p, cudaStream_t stream) {
  return launch(norm_kernel<T, kWidth, kPerThread, kThreads>, dim3(p.rows), dim3(kThreads), 0,
                stream, p);
}

template <class T>
cudaError_t dispatch(const NormParams& p, cudaStream_t stream) {
  const bool wide = p.cols % 8 == 0 && p.x_stride % 8 == 0 && p.residual_stride % 8 == 0 &&
                    p.out_stride % 8 == 0 && aligned16(p.x, p.residual, p.out) &&
                    aligned16(p.post.weight, p.post.bias, p.pre.weight, p.pre.bias);
  if (wide) {
    if (p.cols <= 8 * 128) return run<T, 8, 1, 128>(p, stream);
    if (p.cols <= 8 * 256) return run<T, 8, 1, 256>(p, stream);
    if (p.cols <= 8 * 512) return run<T, 8, 2, 256>(p, stream);
    if (p.cols <= 8 * 1024) return run<T, 8, 2, 512>(p, stream);
    if (p.cols <= 8 * 2048) return run<T, 8, 4, 512>(p, stream);
    return run<T, 8, 8, 512>(p, stream);
  }
  if (p.cols <= 128 * 8) return run<T, 1, 8, 128>(p, stream);
  if (p.cols <= 512 * 16) return run<T, 1, 16, 512>(p, stream);
  if (p.cols <= kMaxNarrowNormCols) return run<T, 1, 32, 512>(p, stream);
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t norm(const NormParams& p, cudaStream_t stream) {
  if (p.rows == 0) return cudaSuccess;
  if (p.rows < 0 || p.cols < 1 || p.cols > kMaxNormCols) return cudaErrorInvalidValue;
  if (p.type == ElementType::kBF16) return dispatch<__nv_bfloat16>(p, stream);
  return dispatch<__half>(p, stream);
}

}  // namespace pelton::cuda
