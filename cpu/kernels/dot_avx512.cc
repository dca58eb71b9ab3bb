// int8 dot products by AVX-512 VNNI: vpdpbusd, unsigned codes times signed activations.
#include "cpu/kernels/dot.h"
#include "cpu/kernels/simd_avx512.h"

namespace pelton::cpu {
namespace avx512 {
namespace {

#include "cpu/kernels/formats.inl.h"

constexpr bool kSigned8 = false;
constexpr int kTileTokens = 6, kUnpackTiles = 4;

PELTON_INLINE U set1_u(uint32_t x) {
  return _mm512_set1_epi32(static_cast<int>(x));
}
PELTON_INLINE void store_u(void* p, U a) {
  _mm512_storeu_si512(p, a);
}
template <int kMask>
PELTON_INLINE U keep_bits(U a) {
  return _mm512_and_si512(a, _mm512_set1_epi32(kMask));
}
PELTON_INLINE U merge_or(U a, U b) {
  return _mm512_or_si512(a, b);
}
PELTON_INLINE void keep_loaded(U&) {}
[[maybe_unused]] PELTON_INLINE U flip_signs(U a) {
  return a;  // codes are unsigned here
}
PELTON_INLINE F to_float(U a) {
  return _mm512_cvtepi32_ps(a);
}
PELTON_INLINE void store_low_bytes(int8_t* p, F a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_castps_si512(a)));
}

PELTON_INLINE U add_u8(U a, U b) {
  return _mm512_add_epi8(a, b);
}
PELTON_INLINE U add_u16(U a, U b) {
  return _mm512_add_epi16(a, b);
}
template <bool kSigned>
PELTON_INLINE U add_pairs(U a) {
  static_assert(!kSigned);
  return _mm512_maddubs_epi16(a, _mm512_set1_epi8(1));
}

template <int kBits>
struct Dot {
  U acc;
  PELTON_FORCE_INLINE void start(U init) { acc = init; }
  template <int kQuad>
  PELTON_FORCE_INLINE void add(U codes, U x) {
    acc = _mm512_dpbusd_epi32(acc, codes, x);
  }
  PELTON_FORCE_INLINE U sum(U code_sums, U zero_pair) const {
    return _mm512_dpwssd_epi32(acc, code_sums, zero_pair);
  }
};

#include "cpu/kernels/dot.inl.h"

constexpr DotTable kTable = make_dot_table("vnni");

}  // namespace
}  // namespace avx512

const DotTable& dot_avx512() {
  return avx512::kTable;
}

}  // namespace pelton::cpu
