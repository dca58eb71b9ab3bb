// Sixteen float32 lanes in one AVX-512 register: the vocabulary that the kernels are written in.
// simd_avx2.h and simd_scalar.h speak the same, lane for lane and rounding for rounding. Included
// only by a translation unit compiled for this instruction set.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define PELTON_SIMD_ISA avx512
#define PELTON_INLINE static inline __attribute__((always_inline))
#define PELTON_FORCE_INLINE inline __attribute__((always_inline))
#define PELTON_LAMBDA __attribute__((always_inline))

namespace pelton::cpu::avx512 {

using F = __m512;
using U = __m512i;  // sixteen 32-bit integers
using Mask = __mmask16;

// Register tiles: groups of 16 rows and tokens in one GEMM tile; groups in one GEMV; attention
// rows.
inline constexpr int kGemmGroups = 2, kGemmTokens = 12, kGemvGroups = 4, kAttentionRows = 8;
inline constexpr int kTileRows = 12;  // attention rows of a prefill tile

PELTON_INLINE F zero() {
  return _mm512_setzero_ps();
}
PELTON_INLINE F set1(float x) {
  return _mm512_set1_ps(x);
}
PELTON_INLINE F load(const float* p) {
  return _mm512_loadu_ps(p);
}
PELTON_INLINE void store(float* p, F a) {
  _mm512_storeu_ps(p, a);
}
PELTON_INLINE Mask first_lanes(int n) {
  return static_cast<Mask>((1U << n) - 1);
}  // n in 0..16
PELTON_INLINE F load_n(const float* p, int n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
PELTON_INLINE void store_n(float* p, F a, int n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), a);
}

PELTON_INLINE F add(F a, F b) {
  return _mm512_add_ps(a, b);
}
PELTON_INLINE F sub(F a, F b) {
  return _mm512_sub_ps(a, b);
}
PELTON_INLINE F mul(F a, F b) {
  return _mm512_mul_ps(a, b);
}
PELTON_INLINE F div(F a, F b) {
  return _mm512_div_ps(a, b);
}
PELTON_INLINE F fma(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
PELTON_INLINE F sqrt(F a) {
  return _mm512_sqrt_ps(a);
}
// a > b ? a : b, so that a NaN in b comes through; likewise min.
PELTON_INLINE F max(F a, F b) {
  return _mm512_max_ps(a, b);
}
PELTON_INLINE F min(F a, F b) {
  return _mm512_min_ps(a, b);
}
PELTON_INLINE Mask less(F a, F b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
PELTON_INLINE F select(Mask m, F a, F b) {
  return _mm512_mask_blend_ps(m, b, a);
}  // m ? a : b
PELTON_INLINE bool any_nan(F a) {
  return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0;
}

PELTON_INLINE U load_u(const void* p) {
  return _mm512_loadu_si512(p);
}
template <int kBits>
PELTON_INLINE U shr(U a) {
  return _mm512_srli_epi32(a, kBits);
}
template <int kBits>
PELTON_INLINE U shl(U a) {
  return _mm512_slli_epi32(a, kBits);
}
PELTON_INLINE U shr_by(U a, int bits) {
  return _mm512_srl_epi32(a, _mm_cvtsi32_si128(bits));
}
// The low `kLow` bits of `low`, the others of `high`.
template <int kLow>
PELTON_INLINE U merge_bits(U low, U high) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi32((1 << kLow) - 1), low, high, 0xCA);
}
// The low `kBits` of each lane as a float; what stands above is ignored.
template <int kBits>
PELTON_INLINE F from_low_bits(U a) {
  if constexpr (kBits == 4) {  // the permutation reads just four bits of its index
    return _mm512_permutexvar_ps(
        a, _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  }
  return _mm512_cvtepi32_ps(_mm512_and_si512(a, _mm512_set1_epi32((1 << kBits) - 1)));
}
PELTON_INLINE F as_float(U a) {
  return _mm512_castsi512_ps(a);
}
PELTON_INLINE F load_i8(const void* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
}
PELTON_INLINE F load_u8(const void* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
}
PELTON_INLINE F load_half(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
PELTON_INLINE F load_bfloat16(const void* p) {
  const __m256i bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
// 2^n for an integer n that stands in the low mantissa bits of 1.5 * 2^23 + n.
PELTON_INLINE F power_of_two(F shifted) {
  const U n = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(0x4B400000 - 127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(n, 23));
}
// To the nearest integer, ties to even.
PELTON_INLINE void store_rounded(uint32_t* p, F a) {
  _mm512_storeu_si512(p, _mm512_cvtps_epi32(a));
}

// Lanes i and i + 8, then 4, 2, 1 apart.
PELTON_INLINE float reduce_add(F a) {
  const __m256 low = _mm512_castps512_ps256(a);
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
  const __m256 b = _mm256_add_ps(low, high);
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
PELTON_INLINE float reduce_max(F a) {
  return _mm512_reduce_max_ps(a);
}

}  // namespace pelton::cpu::avx512
