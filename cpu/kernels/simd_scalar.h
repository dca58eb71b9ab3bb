// The vocabulary of simd_avx512.h in plain C++: the fallback, and what the others must equal.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "backend/quantized_blocks.h"
#include "core/half.h"

#define PELTON_SIMD_ISA scalar
#define PELTON_INLINE static inline
#define PELTON_FORCE_INLINE inline
#define PELTON_LAMBDA

namespace pelton::cpu::scalar {

struct F {
  float v[16];
};
struct U {
  uint32_t v[16];
};
struct Mask {
  bool v[16];
};

inline constexpr int kGemmGroups = 1, kGemmTokens = 4, kGemvGroups = 1, kAttentionRows = 4;
inline constexpr int kTileRows = 4;

template <typename Fn>
PELTON_INLINE F map(Fn fn) {
  F out;
  for (int i = 0; i < 16; ++i) out.v[i] = fn(i);
  return out;
}
template <typename Fn>
PELTON_INLINE U map_u(Fn fn) {
  U out;
  for (int i = 0; i < 16; ++i) out.v[i] = fn(i);
  return out;
}

PELTON_INLINE F set1(float x) {
  return map([&](int) { return x; });
}
PELTON_INLINE F zero() {
  return set1(0);
}
PELTON_INLINE F load(const float* p) {
  return map([&](int i) { return p[i]; });
}
PELTON_INLINE void store(float* p, F a) {
  std::memcpy(p, a.v, sizeof(a.v));
}
PELTON_INLINE F load_n(const float* p, int n) {
  return map([&](int i) { return i < n ? p[i] : 0.0F; });
}
PELTON_INLINE void store_n(float* p, F a, int n) {
  std::memcpy(p, a.v, n * sizeof(float));
}

PELTON_INLINE F add(F a, F b) {
  return map([&](int i) { return a.v[i] + b.v[i]; });
}
PELTON_INLINE F sub(F a, F b) {
  return map([&](int i) { return a.v[i] - b.v[i]; });
}
PELTON_INLINE F mul(F a, F b) {
  return map([&](int i) { return a.v[i] * b.v[i]; });
}
PELTON_INLINE F div(F a, F b) {
  return map([&](int i) { return a.v[i] / b.v[i]; });
}
PELTON_INLINE F fma(F a, F b, F c) {
  return map([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
PELTON_INLINE F sqrt(F a) {
  return map([&](int i) { return std::sqrt(a.v[i]); });
}
PELTON_INLINE F max(F a, F b) {
  return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
PELTON_INLINE F min(F a, F b) {
  return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
PELTON_INLINE Mask less(F a, F b) {
  Mask out;
  for (int i = 0; i < 16; ++i) out.v[i] = a.v[i] < b.v[i];
  return out;
}
PELTON_INLINE F select(Mask m, F a, F b) {
  return map([&](int i) { return m.v[i] ? a.v[i] : b.v[i]; });
}
PELTON_INLINE bool any_nan(F a) {
  bool any = false;
  for (float x : a.v) any |= x != x;
  return any;
}

PELTON_INLINE U load_u(const void* p) {
  U out;
  std::memcpy(out.v, p, sizeof(out.v));
  return out;
}
template <int kBits>
PELTON_INLINE U shr(U a) {
  return map_u([&](int i) { return a.v[i] >> kBits; });
}
template <int kBits>
PELTON_INLINE U shl(U a) {
  return map_u([&](int i) { return a.v[i] << kBits; });
}
PELTON_INLINE U shr_by(U a, int bits) {
  return map_u([&](int i) { return a.v[i] >> bits; });
}
template <int kLow>
PELTON_INLINE U merge_bits(U low, U high) {
  constexpr uint32_t mask = (1U << kLow) - 1;
  return map_u([&](int i) { return (low.v[i] & mask) | (high.v[i] & ~mask); });
}
template <int kBits>
PELTON_INLINE F from_low_bits(U a) {
  return map([&](int i) { return static_cast<float>(a.v[i] & ((1U << kBits) - 1)); });
}
PELTON_INLINE F as_float(U a) {
  return map([&](int i) { return std::bit_cast<float>(a.v[i]); });
}
PELTON_INLINE F load_i8(const void* p) {
  return map([&](int i) { return static_cast<float>(static_cast<const int8_t*>(p)[i]); });
}
PELTON_INLINE F load_u8(const void* p) {
  return map([&](int i) { return static_cast<float>(static_cast<const uint8_t*>(p)[i]); });
}
PELTON_INLINE uint16_t load_u16(const void* p, int i) {
  uint16_t bits;
  std::memcpy(&bits, static_cast<const char*>(p) + 2 * i, sizeof(bits));
  return bits;
}
PELTON_INLINE F load_half(const void* p) {
  return map([&](int i) { return f16_to_f32(load_u16(p, i)); });
}
PELTON_INLINE F load_bfloat16(const void* p) {
  return map([&](int i) { return bf16_to_f32(load_u16(p, i)); });
}
PELTON_INLINE F power_of_two(F shifted) {
  return map([&](int i) {
    return std::bit_cast<float>((std::bit_cast<uint32_t>(shifted.v[i]) - (0x4B400000U - 127))
                                << 23);
  });
}
PELTON_INLINE void store_rounded(uint32_t* p, F a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint32_t>(std::lrint(a.v[i]));
}

PELTON_INLINE float reduce_add(F a) {
  for (int apart = 8; apart > 0; apart /= 2) {
    for (int i = 0; i < apart; ++i) a.v[i] = a.v[i] + a.v[i + apart];
  }
  return a.v[0];
}
PELTON_INLINE float reduce_max(F a) {
  for (int apart = 8; apart > 0; apart /= 2) {
    for (int i = 0; i < apart; ++i) a.v[i] = a.v[i] > a.v[i + apart] ? a.v[i] : a.v[i + apart];
  }
  return a.v[0];
}

}  // namespace pelton::cpu::scalar
