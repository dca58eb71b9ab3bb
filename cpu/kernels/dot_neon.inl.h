// The body of dot_neon*.cc: int8 dot products by SDOT where the file is compiled for it, else by
// widening multiplies. Unsigned codes of up to six bits are signed ones too.
#include "cpu/kernels/dot.h"
#include "cpu/kernels/simd_neon.h"

namespace pelton::cpu {
namespace neon {
namespace {

#include "cpu/kernels/formats.inl.h"

constexpr bool kSigned8 = true;
constexpr int kTileTokens = 4, kUnpackTiles = 4;

PELTON_INLINE int8x16_t bytes_of(uint32x4_t a) {
  return vreinterpretq_s8_u32(a);
}
PELTON_INLINE int16x8_t words_of(uint32x4_t a) {
  return vreinterpretq_s16_u32(a);
}

PELTON_INLINE U set1_u(uint32_t x) {
  const uint32x4_t a = vdupq_n_u32(x);
  return {{a, a, a, a}};
}
PELTON_INLINE void store_u(void* p, U a) {
  for (int i = 0; i < 4; ++i) {
    vst1q_u8(static_cast<uint8_t*>(p) + 16 * i, vreinterpretq_u8_u32(a.v[i]));
  }
}
template <int kMask>
PELTON_INLINE U keep_bits(U a) {
  return map_u([&](int i) PELTON_LAMBDA { return vandq_u32(a.v[i], vdupq_n_u32(kMask)); });
}
PELTON_INLINE U merge_or(U a, U b) {
  return map_u([&](int i) PELTON_LAMBDA { return vorrq_u32(a.v[i], b.v[i]); });
}
PELTON_INLINE void keep_loaded(U&) {}
PELTON_INLINE U flip_signs(U a) {
  return map_u([&](int i) PELTON_LAMBDA { return veorq_u32(a.v[i], vdupq_n_u32(0x80808080U)); });
}
PELTON_INLINE F to_float(U a) {
  return map([&](int i) PELTON_LAMBDA { return vcvtq_f32_s32(vreinterpretq_s32_u32(a.v[i])); });
}
PELTON_INLINE void store_low_bytes(int8_t* p, F a) {
  const auto words = [&](int i) PELTON_LAMBDA {
    return vcombine_u16(vmovn_u32(vreinterpretq_u32_f32(a.v[i])),
                        vmovn_u32(vreinterpretq_u32_f32(a.v[i + 1])));
  };
  vst1q_s8(p, vreinterpretq_s8_u8(vcombine_u8(vmovn_u16(words(0)), vmovn_u16(words(2)))));
}

PELTON_INLINE U add_u8(U a, U b) {
  return map_u([&](int i) PELTON_LAMBDA {
    return vreinterpretq_u32_s8(vaddq_s8(bytes_of(a.v[i]), bytes_of(b.v[i])));
  });
}
PELTON_INLINE U add_u16(U a, U b) {
  return map_u([&](int i) PELTON_LAMBDA {
    return vreinterpretq_u32_s16(vaddq_s16(words_of(a.v[i]), words_of(b.v[i])));
  });
}
template <bool kSigned>
PELTON_INLINE U add_pairs(U a) {
  return map_u([&](int i) PELTON_LAMBDA {
    if constexpr (kSigned) return vreinterpretq_u32_s16(vpaddlq_s8(bytes_of(a.v[i])));
    return vreinterpretq_u32_u16(vpaddlq_u8(vreinterpretq_u8_u32(a.v[i])));
  });
}

// Four products a lane, added.
PELTON_INLINE int32x4_t add_products(int32x4_t acc, int8x16_t a, int8x16_t b) {
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(acc, a, b);
#else
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
  const int16x8_t high = vmull_high_s8(a, b);
  return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}

template <int kBits>
struct Dot {
  int32x4_t acc[4];
  PELTON_FORCE_INLINE void start(U init) {
    for (int i = 0; i < 4; ++i) acc[i] = vreinterpretq_s32_u32(init.v[i]);
  }
  template <int kQuad>
  PELTON_FORCE_INLINE void add(U codes, U x) {
    for (int i = 0; i < 4; ++i) {
      acc[i] = add_products(acc[i], bytes_of(codes.v[i]), bytes_of(x.v[i]));
    }
  }
  PELTON_FORCE_INLINE U sum(U code_sums, U zero_pair) const {
    return map_u([&](int i) PELTON_LAMBDA {
      const int16x8_t codes = words_of(code_sums.v[i]), zeros = words_of(zero_pair.v[i]);
      const int32x4_t low = vmull_s16(vget_low_s16(codes), vget_low_s16(zeros));
      const int32x4_t high = vmull_high_s16(codes, zeros);
      return vreinterpretq_u32_s32(vaddq_s32(acc[i], vpaddq_s32(low, high)));
    });
  }
};

#include "cpu/kernels/dot.inl.h"

#if defined(__ARM_FEATURE_DOTPROD)
constexpr DotTable kTable = make_dot_table("sdot");
#else
constexpr DotTable kTable = make_dot_table("neon");
#endif

}  // namespace
}  // namespace neon
}  // namespace pelton::cpu
