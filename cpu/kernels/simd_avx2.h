// The vocabulary of simd_avx512.h in pairs of AVX2 registers (with FMA and F16C).
#pragma once

#include <immintrin.h>

#include <cstdint>

#define PELTON_SIMD_ISA avx2
#define PELTON_INLINE static inline __attribute__((always_inline))
#define PELTON_FORCE_INLINE inline __attribute__((always_inline))
#define PELTON_LAMBDA __attribute__((always_inline))

namespace pelton::cpu::avx2 {

struct F {
  __m256 lo, hi;
};
struct U {
  __m256i lo, hi;
};
struct Mask {
  __m256 lo, hi;
};

inline constexpr int kGemmGroups = 1, kGemmTokens = 6, kGemvGroups = 2, kAttentionRows = 4;
inline constexpr int kTileRows = 6;

PELTON_INLINE F zero() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
PELTON_INLINE F set1(float x) {
  const __m256 a = _mm256_set1_ps(x);
  return {a, a};
}
PELTON_INLINE F load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
PELTON_INLINE void store(float* p, F a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
PELTON_INLINE F load_n(const float* p, int n) {
  alignas(32) float lanes[16] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
PELTON_INLINE void store_n(float* p, F a, int n) {
  alignas(32) float lanes[16];
  store(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

PELTON_INLINE F add(F a, F b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
PELTON_INLINE F sub(F a, F b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
PELTON_INLINE F mul(F a, F b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
PELTON_INLINE F div(F a, F b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
PELTON_INLINE F fma(F a, F b, F c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
PELTON_INLINE F sqrt(F a) {
  return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}
PELTON_INLINE F max(F a, F b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
PELTON_INLINE F min(F a, F b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
PELTON_INLINE Mask less(F a, F b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
PELTON_INLINE F select(Mask m, F a, F b) {
  return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}
PELTON_INLINE bool any_nan(F a) {
  return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q),
                                         _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q))) != 0;
}

PELTON_INLINE U load_u(const void* p) {
  const auto* q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
template <int kBits>
PELTON_INLINE U shr(U a) {
  return {_mm256_srli_epi32(a.lo, kBits), _mm256_srli_epi32(a.hi, kBits)};
}
template <int kBits>
PELTON_INLINE U shl(U a) {
  return {_mm256_slli_epi32(a.lo, kBits), _mm256_slli_epi32(a.hi, kBits)};
}
PELTON_INLINE U shr_by(U a, int bits) {
  const __m128i count = _mm_cvtsi32_si128(bits);
  return {_mm256_srl_epi32(a.lo, count), _mm256_srl_epi32(a.hi, count)};
}
template <int kLow>
PELTON_INLINE __m256i merge_bits(__m256i low, __m256i high) {
  const __m256i mask = _mm256_set1_epi32((1 << kLow) - 1);
  return _mm256_or_si256(_mm256_and_si256(mask, low), _mm256_andnot_si256(mask, high));
}
template <int kLow>
PELTON_INLINE U merge_bits(U low, U high) {
  return {merge_bits<kLow>(low.lo, high.lo), merge_bits<kLow>(low.hi, high.hi)};
}
template <int kBits>
PELTON_INLINE F from_low_bits(U a) {
  const __m256i mask = _mm256_set1_epi32((1 << kBits) - 1);
  return {_mm256_cvtepi32_ps(_mm256_and_si256(a.lo, mask)),
          _mm256_cvtepi32_ps(_mm256_and_si256(a.hi, mask))};
}
PELTON_INLINE F as_float(U a) {
  return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}
PELTON_INLINE F load_i8(const void* p) {
  const auto* q = static_cast<const int64_t*>(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(q))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(q + 1)))};
}
PELTON_INLINE F load_u8(const void* p) {
  const auto* q = static_cast<const int64_t*>(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadu_si64(q))),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadu_si64(q + 1)))};
}
PELTON_INLINE F load_half(const void* p) {
  const auto* q = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
PELTON_INLINE __m256 widen_bfloat16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
PELTON_INLINE F load_bfloat16(const void* p) {
  const auto* q = static_cast<const __m128i*>(p);
  return {widen_bfloat16(_mm_loadu_si128(q)), widen_bfloat16(_mm_loadu_si128(q + 1))};
}
PELTON_INLINE __m256 power_of_two(__m256 shifted) {
  const __m256i n =
      _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x4B400000 - 127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
}
PELTON_INLINE F power_of_two(F shifted) {
  return {power_of_two(shifted.lo), power_of_two(shifted.hi)};
}
PELTON_INLINE void store_rounded(uint32_t* p, F a) {
  auto* q = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(q, _mm256_cvtps_epi32(a.lo));
  _mm256_storeu_si256(q + 1, _mm256_cvtps_epi32(a.hi));
}

PELTON_INLINE float reduce_add(F a) {
  const __m256 b = _mm256_add_ps(a.lo, a.hi);
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
PELTON_INLINE float reduce_max(F a) {
  const __m256 b = _mm256_max_ps(a.lo, a.hi);
  __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}

}  // namespace pelton::cpu::avx2
