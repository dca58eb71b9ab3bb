// A lane's part of a chunk of packed weights: loading its codes and scales, and turning the codes
// into A fragments of mma.m16n8k16. Device side only; the layout is weight_layout.h's.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/primitives.h"
#include "cuda/kernels/weight_layout.h"

namespace pelton::cuda {

// What is subtracted from a code: signed bytes are stored as u + 128.
__host__ __device__ constexpr int code_offset(WeightFormat format) {
  switch (format) {
    case WeightFormat::kQ8_0:
      return 128;
    case WeightFormat::kQ4_0:
      return 8;
    case WeightFormat::kQ5_0:
      return 16;
    case WeightFormat::kQ6_K:
      return 32;
    default:
      return 0;
  }
}

// (u - offset) of two codes u < 128 in the low bits of each half, as two elements; exact.
template <typename T>
__device__ __forceinline__ uint32_t small_codes(uint32_t codes, int offset);
template <>
__device__ __forceinline__ uint32_t small_codes<BF16>(uint32_t codes, int offset) {
  return sub_bf16x2(codes | Element<BF16>::kShiftBits,
                    Element<BF16>::kShiftBits | (static_cast<uint32_t>(offset) * 0x10001U));
}
template <>
__device__ __forceinline__ uint32_t small_codes<F16>(uint32_t codes, int offset) {
  return sub_f16x2(codes | Element<F16>::kShiftBits,
                   Element<F16>::kShiftBits | (static_cast<uint32_t>(offset) * 0x10001U));
}
// The same of bytes u < 256, less 128.
template <typename T>
__device__ __forceinline__ uint32_t byte_codes(uint32_t codes);
template <>
__device__ __forceinline__ uint32_t byte_codes<F16>(uint32_t codes) {
  return small_codes<F16>(codes, 128);
}
template <>
__device__ __forceinline__ uint32_t byte_codes<BF16>(uint32_t codes) {
  // 2^23 + u holds u in its lowest bits; bf16 has too few for 2^8 + u.
  const float low = __uint_as_float(0x4B000000U | (codes & 0xFFFFU)) - 8388736.0F;
  const float high = __uint_as_float(0x4B000000U | (codes >> 16)) - 8388736.0F;
  return pack2<BF16>(low, high);
}

// Two e4m3 bytes as elements; exact. Their bits are those of an f16 with another exponent bias.
template <typename T>
__device__ __forceinline__ uint32_t e4m3_codes(uint32_t codes) {
  const uint32_t bits = (codes & 0x00800080U) << 8 | (codes & 0x007F007FU) << 7;
  return pack2<T>(256.0F * Element<F16>::bits_to_float(bits & 0xFFFFU),
                  256.0F * Element<F16>::bits_to_float(bits >> 16));
}
template <typename T, WeightFormat kFormat>
__device__ __forceinline__ uint32_t eight_bit_codes(uint32_t codes) {
  if constexpr (kFormat == WeightFormat::kF8_128) {
    return e4m3_codes<T>(codes);
  } else {
    return byte_codes<T>(codes);
  }
}

// The codes of one chunk that belong to this lane.
template <int kBits>
struct LaneCodes;

template <>
struct LaneCodes<16> {
  uint4 w[4];  // [32 of k: 2][row / 8]
  // `rows`: of the row tile, from the chunk's first k on.
  __device__ __forceinline__ void load_rows(const uint8_t* rows, int64_t row_bytes, int lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] =
          load16_streaming(rows + (lane / 4 + i % 2 * 8) * row_bytes + i / 2 * 64 + lane % 4 * 16);
    }
  }
  template <typename T, WeightFormat kFormat>
  __device__ __forceinline__ void fragment(int step, uint32_t (&a)[4]) const {
    const uint4 low = w[step / 2 * 2], high = w[step / 2 * 2 + 1];
    const bool first = step % 2 == 0;
    a[0] = first ? low.x : low.z;
    a[1] = first ? high.x : high.z;
    a[2] = first ? low.y : low.w;
    a[3] = first ? high.y : high.w;
  }
};

template <>
struct LaneCodes<8> {
  uint4 w[2];
  __device__ __forceinline__ void load(const uint8_t* chunk, int lane) {
#pragma unroll
    for (int s = 0; s < 2; ++s) w[s] = load16_streaming(chunk + (s * 32 + lane) * 16);
  }
  template <typename T, WeightFormat kFormat>
  __device__ __forceinline__ void fragment(int step, uint32_t (&a)[4]) const {
    const uint4 pair = w[step / 2];
    const uint32_t first = step % 2 == 0 ? pair.x : pair.z;
    const uint32_t second = step % 2 == 0 ? pair.y : pair.w;
    a[0] = eight_bit_codes<T, kFormat>(first & 0x00FF00FFU);
    a[1] = eight_bit_codes<T, kFormat>(first >> 8 & 0x00FF00FFU);
    a[2] = eight_bit_codes<T, kFormat>(second & 0x00FF00FFU);
    a[3] = eight_bit_codes<T, kFormat>(second >> 8 & 0x00FF00FFU);
  }
};

__device__ __forceinline__ uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

template <>
struct LaneCodes<4> {
  uint4 w;
  __device__ __forceinline__ void load(const uint8_t* chunk, int lane) {
    w = load16_streaming(chunk + lane * 16);
  }
  template <typename T, WeightFormat kFormat>
  __device__ __forceinline__ void fragment(int step, uint32_t (&a)[4]) const {
    const uint32_t word = word_of(w, step);
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      a[p] = small_codes<T>(word >> (4 * p) & 0x000F000FU, code_offset(kFormat));
    }
  }
};

template <>
struct LaneCodes<5> {
  uint4 w;
  uint32_t fifth;
  __device__ __forceinline__ void load(const uint8_t* chunk, int lane) {
    w = load16_streaming(chunk + lane * 16);
    fifth = load4_streaming(chunk + 512 + lane * 4);
  }
  template <typename T, WeightFormat kFormat>
  __device__ __forceinline__ void fragment(int step, uint32_t (&a)[4]) const {
    const uint32_t word = word_of(w, step);
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const uint32_t high = fifth >> (4 * step + p) & 0x00010001U;
      a[p] = small_codes<T>((word >> (4 * p) & 0x000F000FU) | high << 4, code_offset(kFormat));
    }
  }
};

template <>
struct LaneCodes<6> {
  uint4 w;
  uint2 high;
  __device__ __forceinline__ void load(const uint8_t* chunk, int lane) {
    w = load16_streaming(chunk + lane * 16);
    high = load8_streaming(chunk + 512 + lane * 8);
  }
  template <typename T, WeightFormat kFormat>
  __device__ __forceinline__ void fragment(int step, uint32_t (&a)[4]) const {
    const uint32_t word = word_of(w, step);
    const uint32_t two = step < 2 ? high.x : high.y;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const uint32_t bits = two >> (2 * (4 * (step % 2) + p)) & 0x00030003U;
      a[p] = small_codes<T>((word >> (4 * p) & 0x000F000FU) | bits << 4, code_offset(kFormat));
    }
  }
};

__device__ __forceinline__ float low_half(uint32_t bits) {
  return Element<F16>::bits_to_float(bits & 0xFFFFU);
}
__device__ __forceinline__ float high_half(uint32_t bits) {
  return Element<F16>::bits_to_float(bits >> 16);
}

// Scales of the two rows of a lane (row % 8 = lane / 4; rows 0..7 and 8..15) over one chunk.
// load_unit once a unit, load_chunk once a chunk; scale(row half, block of the chunk) and min().
template <WeightFormat kFormat>
struct LaneScales;

template <>
struct LaneScales<WeightFormat::k16Bit> {};

struct SimpleScales {
  uint2 d;  // [row half] two blocks
  __device__ __forceinline__ void load_unit(const uint8_t*, int) {}
  __device__ __forceinline__ void load_chunk(const uint8_t* scales, int, int lane) {
    d = load8_streaming(scales + lane / 4 * 8);
  }
  __device__ __forceinline__ float scale(int half, int block) const {
    const uint32_t word = half == 0 ? d.x : d.y;
    return block == 0 ? low_half(word) : high_half(word);
  }
  __device__ __forceinline__ float min(int, int) const { return 0; }
};
template <>
struct LaneScales<WeightFormat::kQ8_0> : SimpleScales {};
template <>
struct LaneScales<WeightFormat::kQ4_0> : SimpleScales {};
template <>
struct LaneScales<WeightFormat::kQ5_0> : SimpleScales {};

struct ScalesAndMins {
  uint4 dm;  // [row half][block] d, m
  __device__ __forceinline__ void load_unit(const uint8_t*, int) {}
  __device__ __forceinline__ void load_chunk(const uint8_t* scales, int, int lane) {
    dm = load16_streaming(scales + lane / 4 * 16);
  }
  __device__ __forceinline__ float scale(int half, int block) const {
    return low_half(word_of(dm, 2 * half + block));
  }
  __device__ __forceinline__ float min(int half, int block) const {
    return high_half(word_of(dm, 2 * half + block));
  }
};
template <>
struct LaneScales<WeightFormat::kQ4_1> : ScalesAndMins {};
template <>
struct LaneScales<WeightFormat::kQ5_1> : ScalesAndMins {};

struct SuperScalesAndMins {
  uint2 d;    // [row half] d, dmin
  uint2 sub;  // [row half] scale, min, scale, min of the chunk's two blocks
  __device__ __forceinline__ void load_unit(const uint8_t* scales, int lane) {
    d = load8_streaming(scales + 256 + lane / 4 * 8);
  }
  __device__ __forceinline__ void load_chunk(const uint8_t* scales, int chunk, int lane) {
    sub = load8_streaming(scales + chunk * 64 + lane / 4 * 8);
  }
  __device__ __forceinline__ float scale(int half, int block) const {
    const uint32_t s = (half == 0 ? sub.x : sub.y) >> (16 * block) & 0xFFU;
    return low_half(half == 0 ? d.x : d.y) * static_cast<float>(s);
  }
  __device__ __forceinline__ float min(int half, int block) const {
    const uint32_t m = (half == 0 ? sub.x : sub.y) >> (16 * block + 8) & 0xFFU;
    return -(high_half(half == 0 ? d.x : d.y) * static_cast<float>(m));
  }
};
template <>
struct LaneScales<WeightFormat::kQ4_K> : SuperScalesAndMins {};
template <>
struct LaneScales<WeightFormat::kQ5_K> : SuperScalesAndMins {};

template <>
struct LaneScales<WeightFormat::kQ6_K> {
  uint32_t d;  // [row half] f16
  uint2 sub;   // [row half] four signed scales
  __device__ __forceinline__ void load_unit(const uint8_t* scales, int lane) {
    d = load4_streaming(scales + 256 + lane / 4 * 4);
  }
  __device__ __forceinline__ void load_chunk(const uint8_t* scales, int chunk, int lane) {
    sub = load8_streaming(scales + chunk * 64 + lane / 4 * 8);
  }
  __device__ __forceinline__ float scale(int half, int block) const {
    const auto s = static_cast<int8_t>((half == 0 ? sub.x : sub.y) >> (8 * block) & 0xFFU);
    return (half == 0 ? low_half(d) : high_half(d)) * static_cast<float>(s);
  }
  __device__ __forceinline__ float min(int, int) const { return 0; }
};

template <>
struct LaneScales<WeightFormat::kF8_128> {
  uint2 d;  // [row half] f32
  __device__ __forceinline__ void load_unit(const uint8_t* scales, int lane) {
    d = load8_streaming(scales + lane / 4 * 8);
  }
  __device__ __forceinline__ void load_chunk(const uint8_t*, int, int) {}
  __device__ __forceinline__ float scale(int half, int) const {
    return __uint_as_float(half == 0 ? d.x : d.y);
  }
  __device__ __forceinline__ float min(int, int) const { return 0; }
};

template <>
struct LaneScales<WeightFormat::kI4_128> {
  uint2 d;  // [row half] f16 d, u16 zero
  __device__ __forceinline__ void load_unit(const uint8_t* scales, int lane) {
    d = load8_streaming(scales + lane / 4 * 8);
  }
  __device__ __forceinline__ void load_chunk(const uint8_t*, int, int) {}
  __device__ __forceinline__ float scale(int half, int) const {
    return low_half(half == 0 ? d.x : d.y);
  }
  __device__ __forceinline__ float min(int half, int block) const {
    return -(scale(half, block) * static_cast<float>((half == 0 ? d.x : d.y) >> 16));
  }
};

}  // namespace pelton::cuda
