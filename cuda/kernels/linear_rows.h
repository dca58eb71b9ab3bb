// The rows of a product on their way in and out: what the kernels of linear_kernels.h are given,
// x's registers, and sums that leave as rows of out. Device side only.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/linear.h"
#include "cuda/kernels/primitives.h"

namespace pelton::cuda {

struct LinearArgs {
  const uint8_t* weights;
  const void* x;
  const float* bias;
  void* out;
  int64_t x_stride, out_stride;
  int m, n, k;
  bool out_f32;
  bool x_vectors;    // rows of x are 16-byte aligned
  bool out_vectors;  // rows of out are
};

// The matrix of this block; of several: x, out and m become those of its rows.
template <typename T>
__device__ __forceinline__ const uint8_t* enter_group(LinearArgs& args,
                                                      const LinearGroups& groups) {
  if (groups.starts == nullptr) return args.weights;
  const int first = groups.starts[blockIdx.z];
  args.m = groups.starts[blockIdx.z + 1] - first;
  args.x = static_cast<const T*>(args.x) + first * args.x_stride;
  args.out = static_cast<uint8_t*>(args.out) + first * args.out_stride * (args.out_f32 ? 4 : 2);
  return static_cast<const uint8_t*>(groups.weights[blockIdx.z]);
}

// Eight (kCount 4 registers) or four (2) elements of a row of x from k on, zero beyond the end.
template <typename T, int kCount>
__device__ __forceinline__ void load_x(const LinearArgs& args, int token, int k, uint32_t (&b)[4],
                                       int at) {
  const bool inside = token < args.m && k < args.k;
  const T* row = static_cast<const T*>(args.x) + token * args.x_stride + k;
#pragma unroll
  for (int i = 0; i < kCount; ++i) b[at + i] = 0;
  if (!inside) return;
  if (args.x_vectors && k + 2 * kCount <= args.k) {
    if constexpr (kCount == 4) {
      const uint4 v = load16(row);
      b[0] = v.x, b[1] = v.y, b[2] = v.z, b[3] = v.w;
    } else {
      const uint2 v = load8(row);
      b[at] = v.x, b[at + 1] = v.y;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 2 * kCount; ++i) {
    if (k + i < args.k) b[at + i / 2] |= element_bits(row[i]) << (16 * (i % 2));
  }
}

// Rows row .. row + 3 of one token.
template <typename T>
__device__ __forceinline__ void store_4(const LinearArgs& args, int token, int row, float4 sum) {
  if (token >= args.m || row >= args.n) return;
  float v[4] = {sum.x, sum.y, sum.z, sum.w};
  const int count = args.n - row;
  if (args.bias != nullptr) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < count) v[i] += args.bias[row + i];
    }
  }
  const int64_t at = token * args.out_stride + row;
  if (args.out_f32) {
    float* out = static_cast<float*>(args.out) + at;
    if (args.out_vectors && count >= 4) {
      store16(out, make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]),
                              __float_as_uint(v[3])));
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i < count) out[i] = v[i];
      }
    }
  } else {
    T* out = static_cast<T*>(args.out) + at;
    if (args.out_vectors && count >= 4) {
      store8(out, make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3])));
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i < count) out[i] = Element<T>::from_float(v[i]);
      }
    }
  }
}

// Fragments leave through rows of 16 (+ 4: no two lanes in one bank), a token each.
inline constexpr int kSumStride = 20;
__device__ __forceinline__ void put_fragment(float* tokens, const float (&acc)[4], int lane) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) tokens[(2 * t + i % 2) * kSumStride + g + 8 * (i / 2)] = acc[i];
}
// The token (of 8) and the first of four rows that a lane takes back.
__device__ __forceinline__ int taken_token(int lane) {
  return lane / 8 + lane % 8 / 4 * 4;
}
__device__ __forceinline__ float4 take_rows(const float* tokens, int lane) {
  const uint4 v = load16(tokens + taken_token(lane) * kSumStride + lane % 4 * 4);
  return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
                     __uint_as_float(v.w));
}

}  // namespace pelton::cuda
