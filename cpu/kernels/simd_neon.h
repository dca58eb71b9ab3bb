// The vocabulary of simd_avx512.h in quadruples of NEON registers (AArch64, where it is always
// there).
#pragma once

#include <arm_neon.h>

#include <cstdint>

#define PELTON_SIMD_ISA neon
#define PELTON_INLINE static inline __attribute__((always_inline))
#define PELTON_FORCE_INLINE inline __attribute__((always_inline))
#define PELTON_LAMBDA __attribute__((always_inline))

namespace pelton::cpu::neon {

struct F {
  float32x4_t v[4];
};
struct U {
  uint32x4_t v[4];
};
using Mask = U;  // all ones or none

inline constexpr int kGemmGroups = 1, kGemmTokens = 6, kGemvGroups = 2, kAttentionRows = 4;
inline constexpr int kTileRows = 6;

// fn(i) for each of the four registers.
template <typename Fn>
PELTON_INLINE F map(Fn fn) {
  return {{fn(0), fn(1), fn(2), fn(3)}};
}
template <typename Fn>
PELTON_INLINE U map_u(Fn fn) {
  return {{fn(0), fn(1), fn(2), fn(3)}};
}

PELTON_INLINE F set1(float x) {
  const float32x4_t a = vdupq_n_f32(x);
  return {{a, a, a, a}};
}
PELTON_INLINE F zero() {
  return set1(0);
}
PELTON_INLINE F load(const float* p) {
  return map([&](int i) PELTON_LAMBDA { return vld1q_f32(p + 4 * i); });
}
PELTON_INLINE void store(float* p, F a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.v[i]);
}
PELTON_INLINE F load_n(const float* p, int n) {
  alignas(16) float lanes[16] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
PELTON_INLINE void store_n(float* p, F a, int n) {
  alignas(16) float lanes[16];
  store(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

PELTON_INLINE F add(F a, F b) {
  return map([&](int i) PELTON_LAMBDA { return vaddq_f32(a.v[i], b.v[i]); });
}
PELTON_INLINE F sub(F a, F b) {
  return map([&](int i) PELTON_LAMBDA { return vsubq_f32(a.v[i], b.v[i]); });
}
PELTON_INLINE F mul(F a, F b) {
  return map([&](int i) PELTON_LAMBDA { return vmulq_f32(a.v[i], b.v[i]); });
}
PELTON_INLINE F div(F a, F b) {
  return map([&](int i) PELTON_LAMBDA { return vdivq_f32(a.v[i], b.v[i]); });
}
PELTON_INLINE F fma(F a, F b, F c) {
  return map([&](int i) PELTON_LAMBDA { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
PELTON_INLINE F sqrt(F a) {
  return map([&](int i) PELTON_LAMBDA { return vsqrtq_f32(a.v[i]); });
}
// NEON's own maximum lets a NaN of either side through; ours takes b then.
PELTON_INLINE float32x4_t max(float32x4_t a, float32x4_t b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
PELTON_INLINE F max(F a, F b) {
  return map([&](int i) PELTON_LAMBDA { return max(a.v[i], b.v[i]); });
}
PELTON_INLINE F min(F a, F b) {
  return map([&](int i)
                 PELTON_LAMBDA { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
PELTON_INLINE Mask less(F a, F b) {
  return map_u([&](int i) PELTON_LAMBDA { return vcltq_f32(a.v[i], b.v[i]); });
}
PELTON_INLINE F select(Mask m, F a, F b) {
  return map([&](int i) PELTON_LAMBDA { return vbslq_f32(m.v[i], a.v[i], b.v[i]); });
}
PELTON_INLINE bool any_nan(F a) {
  uint32x4_t equal = vdupq_n_u32(~0U);
  for (const float32x4_t& x : a.v) equal = vandq_u32(equal, vceqq_f32(x, x));
  return vminvq_u32(equal) == 0;
}

PELTON_INLINE U load_u(const void* p) {
  const auto* q = static_cast<const uint8_t*>(p);  // no alignment is promised
  return map_u([&](int i) PELTON_LAMBDA { return vreinterpretq_u32_u8(vld1q_u8(q + 16 * i)); });
}
template <int kBits>
PELTON_INLINE U shr(U a) {
  if constexpr (kBits == 0) return a;
  return map_u([&](int i) PELTON_LAMBDA { return vshrq_n_u32(a.v[i], kBits > 0 ? kBits : 1); });
}
template <int kBits>
PELTON_INLINE U shl(U a) {
  return map_u([&](int i) PELTON_LAMBDA { return vshlq_n_u32(a.v[i], kBits); });
}
PELTON_INLINE U shr_by(U a, int bits) {
  const int32x4_t left = vdupq_n_s32(-bits);
  return map_u([&](int i) PELTON_LAMBDA { return vshlq_u32(a.v[i], left); });
}
template <int kLow>
PELTON_INLINE U merge_bits(U low, U high) {
  const uint32x4_t mask = vdupq_n_u32((1U << kLow) - 1);
  return map_u([&](int i) PELTON_LAMBDA { return vbslq_u32(mask, low.v[i], high.v[i]); });
}
template <int kBits>
PELTON_INLINE F from_low_bits(U a) {
  const uint32x4_t mask = vdupq_n_u32((1U << kBits) - 1);
  return map([&](int i) PELTON_LAMBDA { return vcvtq_f32_u32(vandq_u32(a.v[i], mask)); });
}
PELTON_INLINE F as_float(U a) {
  return map([&](int i) PELTON_LAMBDA { return vreinterpretq_f32_u32(a.v[i]); });
}
PELTON_INLINE F load_i8(const void* p) {
  const int8x16_t bytes = vld1q_s8(static_cast<const int8_t*>(p));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
}
PELTON_INLINE F load_u8(const void* p) {
  const uint8x16_t bytes = vld1q_u8(static_cast<const uint8_t*>(p));
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
  return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_high_u16(low)),
           vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_high_u16(high))}};
}
PELTON_INLINE uint16x4_t load_four_u16(const void* p, int i) {
  return vreinterpret_u16_u8(vld1_u8(static_cast<const uint8_t*>(p) + 8 * i));
}
PELTON_INLINE F load_half(const void* p) {
  return map([&](int i)
                 PELTON_LAMBDA { return vcvt_f32_f16(vreinterpret_f16_u16(load_four_u16(p, i))); });
}
PELTON_INLINE F load_bfloat16(const void* p) {
  return map([&](int i) PELTON_LAMBDA {
    return vreinterpretq_f32_u32(vshll_n_u16(load_four_u16(p, i), 16));
  });
}
PELTON_INLINE F power_of_two(F shifted) {
  const uint32x4_t bias = vdupq_n_u32(0x4B400000U - 127);
  return map([&](int i) PELTON_LAMBDA {
    const uint32x4_t n = vsubq_u32(vreinterpretq_u32_f32(shifted.v[i]), bias);
    return vreinterpretq_f32_u32(vshlq_n_u32(n, 23));
  });
}
PELTON_INLINE void store_rounded(uint32_t* p, F a) {
  for (int i = 0; i < 4; ++i) vst1q_u32(p + 4 * i, vreinterpretq_u32_s32(vcvtnq_s32_f32(a.v[i])));
}

PELTON_INLINE float reduce_add(F a) {
  const float32x4_t c = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t d = vadd_f32(vget_low_f32(c), vget_high_f32(c));
  return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}
PELTON_INLINE float reduce_max(F a) {
  float32x4_t c = max(max(a.v[0], a.v[2]), max(a.v[1], a.v[3]));
  c = max(c, vextq_f32(c, c, 2));
  c = max(c, vextq_f32(c, c, 1));
  return vgetq_lane_f32(c, 0);
}

}  // namespace pelton::cpu::neon
