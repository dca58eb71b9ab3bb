#include "cuda/kernels/activation.h"

#include "cuda/kernels/row_access.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 256;

template <ActivationKind kKind>
__device__ __forceinline__ float activate(float x) {
  if constexpr (kKind == ActivationKind::kSilu) {
    return x / (1.0F + expf(-x));
  } else if constexpr (kKind == ActivationKind::kGeluTanh) {
    return 0.5F * x * (1.0F + tanhf(0.7978845608F * (x + 0.044715F * x * x * x)));
  } else if constexpr (kKind == ActivationKind::kGeluErf) {
    return 0.5F * x * erfcf(-0.7071067812F * x);
  } else {
    return x > 0.0F ? x : 0.0F;
  }
}

// Blocks along x cover the columns, blocks along y take every gridDim.y-th row.
template <class T, int kWidth, ActivationKind kKind>
__global__ void __launch_bounds__(kThreads) activation_kernel(ActivationParams p) {
  const int64_t col = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (col >= p.cols) return;
  for (int64_t row = blockIdx.y; row < p.rows; row += gridDim.y) {
    const T* source = static_cast<const T*>(p.x) + row * p.x_stride + col;
    float x[kWidth];
    load_elements<kWidth>(source, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] = activate<kKind>(x[i]);
    if (p.gated) {
      float up[kWidth];
      load_elements<kWidth>(source + p.cols, up);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] *= up[i];
    }
    store_elements<kWidth>(static_cast<T*>(p.out) + row * p.out_stride + col, x);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) softcap_kernel(SoftcapParams p) {
  const int64_t col = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (col >= p.cols) return;
  for (int64_t row = blockIdx.y; row < p.rows; row += gridDim.y) {
    T* place = static_cast<T*>(p.x) + row * p.x_stride + col;
    float x[kWidth];
    load_elements<kWidth>(place, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] = p.cap * tanhf(x[i] / p.cap);
    store_elements<kWidth>(place, x);
  }
}

dim3 grid_of(int rows, int cols, int width) {
  constexpr int kMostRows = 32768;
  return dim3(ceil_div(cols, static_cast<size_t>(width) * kThreads),
              rows < kMostRows ? rows : kMostRows);
}

template <class T, int kWidth>
cudaError_t activation_of_width(const ActivationParams& p, cudaStream_t stream) {
  const auto go = [&](void (*kernel)(ActivationParams)) {
    return launch(kernel, grid_of(p.rows, p.cols, kWidth), dim3(kThreads), 0, stream, p);
  };
  switch (p.kind) {
    case ActivationKind::kSilu:
      return go(activation_kernel<T, kWidth, ActivationKind::kSilu>);
    case ActivationKind::kGeluTanh:
      return go(activation_kernel<T, kWidth, ActivationKind::kGeluTanh>);
    case ActivationKind::kGeluErf:
      return go(activation_kernel<T, kWidth, ActivationKind::kGeluErf>);
    case ActivationKind::kRelu:
      return go(activation_kernel<T, kWidth, ActivationKind::kRelu>);
  }
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t activation_of_type(const ActivationParams& p, cudaStream_t stream) {
  const bool wide =
      p.cols % 8 == 0 && p.x_stride % 8 == 0 && p.out_stride % 8 == 0 && aligned16(p.x, p.out);
  return wide ? activation_of_width<T, 8>(p, stream) : activation_of_width<T, 1>(p, stream);
}

template <class T>
cudaError_t softcap_of_type(const SoftcapParams& p, cudaStream_t stream) {
  const bool wide = p.cols % 8 == 0 && p.x_stride % 8 == 0 && aligned16(p.x);
  return launch(wide ? softcap_kernel<T, 8> : softcap_kernel<T, 1>,
                grid_of(p.rows, p.cols, wide ? 8 : 1), dim3(kThreads), 0, stream, p);
}

}  // namespace

cudaError_t activation(const ActivationParams& p, cudaStream_t stream) {
  if (p.rows < 0 || p.cols < 0) return cudaErrorInvalidValue;
  if (p.rows == 0 || p.cols == 0) return cudaSuccess;
  return p.type == ElementType::kBF16 ? activation_of_type<__nv_bfloat16>(p, stream)
                                      : activation_of_type<__half>(p, stream);
}

cudaError_t softcap(const SoftcapParams& p, cudaStream_t stream) {
  if (p.rows < 0 || p.cols < 0 || !(p.cap > 0)) return cudaErrorInvalidValue;
  if (p.rows == 0 || p.cols == 0) return cudaSuccess;
  if (p.is_float32) return softcap_of_type<float>(p, stream);
  return p.type == ElementType::kBF16 ? softcap_of_type<__nv_bfloat16>(p, stream)
                                      : softcap_of_type<__half>(p, stream);
}

}  // namespace pelton::cuda
