// The 16-bit element types of kernels, two of them in a 32-bit register: conversions that are the
// same on a card and on the host. Device side only.
#pragma once

#include "cuda/kernels/device.h"

namespace pelton::cuda {

using BF16 = __nv_bfloat16;
using F16 = __half;

template <typename T>
struct Element;

template <>
struct Element<BF16> {
  // 128 + u has no rounding for 0 <= u < 128, and u are its lowest bits.
  static constexpr uint32_t kShiftBits = 0x43004300;  // 128 in both halves
  static __device__ __forceinline__ BF16 from_float(float x) { return __float2bfloat16_rn(x); }
  static __device__ __forceinline__ float to_float(BF16 x) { return __bfloat162float(x); }
  static __device__ __forceinline__ float bits_to_float(uint32_t bits) {
    return __uint_as_float(bits << 16);
  }
  static __device__ __forceinline__ float high_bits_to_float(uint32_t bits) {
    return __uint_as_float(bits & 0xffff0000u);
  }
};

template <>
struct Element<F16> {
  static constexpr uint32_t kShiftBits = 0x64006400;  // 1024
  static __device__ __forceinline__ F16 from_float(float x) { return __float2half_rn(x); }
  static __device__ __forceinline__ float to_float(F16 x) { return __half2float(x); }
  static __device__ __forceinline__ float bits_to_float(uint32_t bits) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
  }
  static __device__ __forceinline__ float high_bits_to_float(uint32_t bits) {
    return bits_to_float(bits >> 16);
  }
};

// Float32 passes through, for code that reads and writes either.
template <>
struct Element<float> {
  static __device__ __forceinline__ float from_float(float x) { return x; }
  static __device__ __forceinline__ float to_float(float x) { return x; }
};

// Bits of an element, and of two in one register (the first in the low half).
__device__ __forceinline__ uint32_t element_bits(BF16 x) {
  return __bfloat16_as_ushort(x);
}
__device__ __forceinline__ uint32_t element_bits(F16 x) {
  return __half_as_ushort(x);
}
template <typename T>
__device__ __forceinline__ uint32_t pack2(float low, float high) {
  return element_bits(Element<T>::from_float(low)) | element_bits(Element<T>::from_float(high))
                                                         << 16;
}
template <typename T>
__device__ __forceinline__ void unpack2(uint32_t bits, float& low, float& high) {
  low = Element<T>::bits_to_float(bits);
  high = Element<T>::high_bits_to_float(bits);
}

}  // namespace pelton::cuda
