// int8 dot products by NEON's long multiplies (without the dot product extension). 8-bit weights
// are signed; two products fit 16 bits, for an activation is never -128.
#include "cpu/kernels/dot.h"
#include "cpu/kernels/simd_neon.h"

namespace pelton::cpu {
namespace neon {
namespace {

#include "cpu/kernels/formats.inl.h"

constexpr bool kSigned8 = true;
constexpr int kDirectTokens = 2, kProductTokens = 2, kUnpackTiles = 2;

PELTON_INLINE U set1_u(uint32_t x) {
  const uint32x4_t a = vdupq_n_u32(x);
  return {{a, a, a, a}};
}
PELTON_INLINE void store_u(void* p, U a) {
  auto* q = static_cast<uint8_t*>(p);
  for (int i = 0; i < 4; ++i) vst1q_u8(q + 16 * i, vreinterpretq_u8_u32(a.v[i]));
}
template <int kMask>
PELTON_INLINE U keep_bits(U a) {
  return map_u([&](int i) PELTON_LAMBDA { return vandq_u32(a.v[i], vdupq_n_u32(kMask)); });
}
PELTON_INLINE U merge_or(U a, U b) {
  return map_u([&](int i) PELTON_LAMBDA { return vorrq_u32(a.v[i], b.v[i]); });
}
PELTON_INLINE U flip_signs(U a) {
  return map_u([&](int i) PELTON_LAMBDA { return veorq_u32(a.v[i], vdupq_n_u32(0x80808080U)); });
}
PELTON_INLINE F to_float(U a) {
  return map([&](int i) PELTON_LAMBDA { return vcvtq_f32_s32(vreinterpretq_s32_u32(a.v[i])); });
}
PELTON_INLINE void store_low_bytes(int8_t* p, F a) {
  for (int i = 0; i < 2; ++i) {
    const uint16x8_t words = vcombine_u16(vmovn_u32(vreinterpretq_u32_f32(a.v[2 * i])),
                                          vmovn_u32(vreinterpretq_u32_f32(a.v[2 * i + 1])));
    vst1_s8(p + 8 * i, vreinterpret_s8_u8(vmovn_u16(words)));
  }
}
PELTON_INLINE U add_u8(U a, U b) {
  return map_u([&](int i) PELTON_LAMBDA {
    return vreinterpretq_u32_u8(
        vaddq_u8(vreinterpretq_u8_u32(a.v[i]), vreinterpretq_u8_u32(b.v[i])));
  });
}
PELTON_INLINE U add_u16(U a, U b) {
  return map_u([&](int i) PELTON_LAMBDA {
    return vreinterpretq_u32_u16(
        vaddq_u16(vreinterpretq_u16_u32(a.v[i]), vreinterpretq_u16_u32(b.v[i])));
  });
}
template <bool kSigned>
PELTON_INLINE U add_pairs(U a) {
  return map_u([&](int i) PELTON_LAMBDA {
    if constexpr (kSigned) {
      return vreinterpretq_u32_s16(vpaddlq_s8(vreinterpretq_s8_u32(a.v[i])));
    } else {
      return vreinterpretq_u32_u16(vpaddlq_u8(vreinterpretq_u8_u32(a.v[i])));
    }
  });
}

template <int kBits>
struct Dot {
  U acc;
  PELTON_FORCE_INLINE void start(U init) { acc = init; }
  template <int kQuad>
  PELTON_FORCE_INLINE void add(U codes, U x) {
    for (int i = 0; i < 4; ++i) {
      const int8x16_t w = vreinterpretq_s8_u32(codes.v[i]), q = vreinterpretq_s8_u32(x.v[i]);
      const int16x8_t pairs =
          vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(q)), vmull_high_s8(w, q));
      acc.v[i] = vreinterpretq_u32_s32(vpadalq_s16(vreinterpretq_s32_u32(acc.v[i]), pairs));
    }
  }
  PELTON_FORCE_INLINE U sum(U code_sums, U zero_pair) const {
    return map_u([&](int i) PELTON_LAMBDA {
      const int16x8_t s = vreinterpretq_s16_u32(code_sums.v[i]);
      const int16x8_t z = vreinterpretq_s16_u32(zero_pair.v[i]);
      const int32x4_t products =
          vpaddq_s32(vmull_s16(vget_low_s16(s), vget_low_s16(z)), vmull_high_s16(s, z));
      return vaddq_u32(acc.v[i], vreinterpretq_u32_s32(products));
    });
  }
};

#include "cpu/kernels/dot.inl.h"

constexpr DotTable kTable = make_dot_table("mull");

}  // namespace
}  // namespace neon

const DotTable& dot_neon() {
  return neon::kTable;
}

}  // namespace pelton::cpu
