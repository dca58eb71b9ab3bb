// What the kernels that work row by row share: eight elements at a time as float32, sums over a
// warp or a block in a fixed order. Device side only.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/primitives.h"

namespace pelton::cuda {

// kWidth elements from `source` on: 8 by 16-byte accesses (an aligned address), or 1.
template <int kWidth, class T>
__device__ __forceinline__ void load_elements(const T* source, float (&x)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == 8);
  if constexpr (kWidth == 1) {
    x[0] = Element<T>::to_float(*source);
  } else if constexpr (sizeof(T) == 4) {
    const uint4 low = load16(source), high = load16(source + 4);
    x[0] = __uint_as_float(low.x), x[1] = __uint_as_float(low.y);
    x[2] = __uint_as_float(low.z), x[3] = __uint_as_float(low.w);
    x[4] = __uint_as_float(high.x), x[5] = __uint_as_float(high.y);
    x[6] = __uint_as_float(high.z), x[7] = __uint_as_float(high.w);
  } else {
    const uint4 bits = load16(source);
    unpack2<T>(bits.x, x[0], x[1]);
    unpack2<T>(bits.y, x[2], x[3]);
    unpack2<T>(bits.z, x[4], x[5]);
    unpack2<T>(bits.w, x[6], x[7]);
  }
}

template <class T>
__device__ __forceinline__ uint4 pack8(const float (&x)[8]) {
  return make_uint4(pack2<T>(x[0], x[1]), pack2<T>(x[2], x[3]), pack2<T>(x[4], x[5]),
                    pack2<T>(x[6], x[7]));
}

template <int kWidth, class T>
__device__ __forceinline__ void store_elements(T* target, const float (&x)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == 8);
  if constexpr (kWidth == 1) {
    *target = Element<T>::from_float(x[0]);
  } else if constexpr (sizeof(T) == 4) {
    store16(target, make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]),
                               __float_as_uint(x[3])));
    store16(target + 4, make_uint4(__float_as_uint(x[4]), __float_as_uint(x[5]),
                                   __float_as_uint(x[6]), __float_as_uint(x[7])));
  } else {
    store16(target, pack8<T>(x));
  }
}

// Over groups of kLanes neighbouring lanes; every lane of the warp takes part and gets the sum.
template <int kLanes>
__device__ __forceinline__ float lanes_sum(float x) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    x += __shfl_xor_sync(kFullMask, x, distance);
  }
  return x;
}

// Over the block; every thread gets the sum. `partial` is shared, [kThreads / 32], and may be
// written again only after another barrier.
template <int kThreads>
__device__ __forceinline__ float block_sum(float x, float* partial) {
  x = lanes_sum<32>(x);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += partial[warp];
  return sum;
}

// Host side of the choice between the two widths: 16-byte accesses need every address aligned.
template <class... P>
inline bool aligned16(const P*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace pelton::cuda
