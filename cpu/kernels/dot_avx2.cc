// int8 dot products by AVX2: vpmaddubsw into 16 bits, as many of them as cannot overflow, then
// vpmaddwd. 8-bit weights are signed: their sign moves to the activation, whose -128 never occurs.
#include "cpu/kernels/dot.h"
#include "cpu/kernels/simd_avx2.h"

namespace pelton::cpu {
namespace avx2 {
namespace {

#include "cpu/kernels/formats.inl.h"

constexpr bool kSigned8 = true;
constexpr int kTileTokens = 2, kUnpackTiles = 2;

PELTON_INLINE U set1_u(uint32_t x) {
  const __m256i a = _mm256_set1_epi32(static_cast<int>(x));
  return {a, a};
}
PELTON_INLINE void store_u(void* p, U a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(static_cast<__m256i*>(p) + 1, a.hi);
}
template <int kMask>
PELTON_INLINE U keep_bits(U a) {
  const __m256i mask = _mm256_set1_epi32(kMask);
  return {_mm256_and_si256(a.lo, mask), _mm256_and_si256(a.hi, mask)};
}
PELTON_INLINE U merge_or(U a, U b) {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
// Loaded once: GCC reads operands again instead, and two loads a cycle are all there are.
PELTON_INLINE void keep_loaded(U& a) {
  asm("" : "+x"(a.lo), "+x"(a.hi));
}
PELTON_INLINE U flip_signs(U a) {
  const __m256i top = _mm256_set1_epi8(static_cast<char>(0x80));
  return {_mm256_xor_si256(a.lo, top), _mm256_xor_si256(a.hi, top)};
}
PELTON_INLINE F to_float(U a) {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
PELTON_INLINE void store_low_bytes(int8_t* p, F a) {
  const __m256i low = _mm256_set1_epi32(255);
  const __m256i words = _mm256_packus_epi32(_mm256_and_si256(_mm256_castps_si256(a.lo), low),
                                            _mm256_and_si256(_mm256_castps_si256(a.hi), low));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}

PELTON_INLINE U add_u8(U a, U b) {
  return {_mm256_add_epi8(a.lo, b.lo), _mm256_add_epi8(a.hi, b.hi)};
}
PELTON_INLINE U add_u16(U a, U b) {
  return {_mm256_add_epi16(a.lo, b.lo), _mm256_add_epi16(a.hi, b.hi)};
}
template <bool kSigned>
PELTON_INLINE U add_pairs(U a) {
  const __m256i ones = _mm256_set1_epi8(1);
  if constexpr (kSigned) {
    return {_mm256_maddubs_epi16(ones, a.lo), _mm256_maddubs_epi16(ones, a.hi)};
  }
  return {_mm256_maddubs_epi16(a.lo, ones), _mm256_maddubs_epi16(a.hi, ones)};
}

// Quads whose sums fit 16 bits: 2 * 15 * 127 * 8, 2 * 31 * 127 * 4, 2 * 63 * 127 * 2.
template <int kBits>
inline constexpr int kQuadsInside = kBits == 4   ? 8
                                    : kBits == 5 ? 4
                                    : kBits == 6 ? 2
                                                 : 1;

template <int kBits>
struct Dot {
  U wide, narrow;
  PELTON_FORCE_INLINE void start(U init) { wide = init; }
  template <int kQuad>
  PELTON_FORCE_INLINE void add(U codes, U x) {
    add_half<kQuad>(codes.lo, x.lo, wide.lo, narrow.lo);
    add_half<kQuad>(codes.hi, x.hi, wide.hi, narrow.hi);
  }
  PELTON_FORCE_INLINE U sum(U code_sums, U zero_pair) const {
    return {_mm256_add_epi32(wide.lo, _mm256_madd_epi16(code_sums.lo, zero_pair.lo)),
            _mm256_add_epi32(wide.hi, _mm256_madd_epi16(code_sums.hi, zero_pair.hi))};
  }

 private:
  template <int kQuad>
  static PELTON_FORCE_INLINE void add_half(__m256i codes, __m256i x, __m256i& wide,
                                           __m256i& narrow) {
    constexpr int kEvery = kQuadsInside<kBits>;
    __m256i products;
    if constexpr (kBits == 8) {
      products = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
    } else {
      products = _mm256_maddubs_epi16(codes, x);
    }
    if constexpr (kQuad % kEvery != 0) products = _mm256_add_epi16(narrow, products);
    if constexpr (kQuad % kEvery == kEvery - 1) {
      wide = _mm256_add_epi32(wide, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
      asm("" : "+x"(wide));  // GCC 12 sums in trees and spills
    } else {
      narrow = products;
      asm("" : "+x"(narrow));
    }
  }
};

#include "cpu/kernels/dot.inl.h"

constexpr DotTable kTable = make_dot_table("maddubs");

}  // namespace
}  // namespace avx2

const DotTable& dot_avx2() {
  return avx2::kTable;
}

}  // namespace pelton::cpu
