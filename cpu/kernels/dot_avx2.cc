// int8 dot products by AVX2: vpmaddubsw into 16 bits, as many of them as cannot overflow, then
// vpmaddwd; 8-bit weights, of which not two products fit, by vpmaddwd alone.
#include "cpu/kernels/dot.h"
#include "cpu/kernels/simd_avx2.h"

namespace pelton::cpu {
namespace avx2 {
namespace {

#include "cpu/kernels/formats.inl.h"

constexpr bool kSigned8 = false;
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
[[maybe_unused]] PELTON_INLINE U flip_signs(U a) {
  return a;  // codes are unsigned here
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
  static_assert(!kSigned);
  const __m256i ones = _mm256_set1_epi8(1);
  return {_mm256_maddubs_epi16(a.lo, ones), _mm256_maddubs_epi16(a.hi, ones)};
}

// Quads whose sums fit 16 bits: 2 * 15 * 127 * 8, 2 * 31 * 127 * 4, 2 * 63 * 127 * 2.
template <int kBits>
inline constexpr int kQuadsInside = kBits == 4   ? 8
                                    : kBits == 5 ? 4
                                                 : 2;

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
    __m256i products = _mm256_maddubs_epi16(codes, x);
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

constexpr DotTable kTable = make_dot_table<false>("maddubs");

// 8-bit weights as 16-bit pairs (k 0 and 2 of a quad, then 1 and 3) times activations that have
// their zero already: vpmaddwd alone, as many multiplications as vpmaddubsw and vpmaddwd need, but
// no signs to move and no zero to multiply.
struct WideBlock {
  int16_t x[kDotBlock];  // q + zero, each quad in that order
  float scale;
  int32_t start;  // -128 times the sum of x: codes are code + 128
};
static_assert(sizeof(WideBlock) == 72);
inline constexpr int kWideScales = 2 * kDotBlock * kLanes;  // after the pairs
inline constexpr int kWideBytes = kWideScales + 4 * kLanes;

void pack_wide(const PackArgs& a) {
  for (int t = 0; t < a.tokens; ++t) {
    auto* out = reinterpret_cast<WideBlock*>(a.out) + t;
    const float* x = a.x + t * a.x_stride;
    for (int64_t b = 0; b < a.blocks; ++b, out += a.tokens) {
      const int64_t left = a.cols - b * kDotBlock;
      Int8Block block;
      quantize_block(x + b * kDotBlock, left < kDotBlock ? static_cast<int>(left) : kDotBlock,
                     &block);
      const __m256i zero_point = _mm256_set1_epi32(static_cast<int>(bits_of(block.zero)));
      for (int i = 0; i < kDotBlock; i += 16) {
        const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.q + i));
        const __m256i words = _mm256_add_epi16(_mm256_cvtepi8_epi16(q), zero_point);
        constexpr int kOrder = _MM_SHUFFLE(3, 1, 2, 0);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->x + i),
                            _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, kOrder), kOrder));
      }
      out->scale = block.scale;
      out->start = 128 * block.negative_sum;
    }
  }
}

struct WidePairs {
  U even, odd;
};
PELTON_INLINE WidePairs wide_pairs(const uint8_t* tile, int quad) {
  const U codes = load_u(tile + tile_layout(DType::kQ8_0).codes + quad * 4 * kLanes);
  const __m256i low = _mm256_set1_epi16(255);
  return {{_mm256_and_si256(codes.lo, low), _mm256_and_si256(codes.hi, low)},
          {_mm256_srli_epi16(codes.lo, 8), _mm256_srli_epi16(codes.hi, 8)}};
}

void unpack_wide(const UnpackArgs& a) {
  const uint8_t* tile = a.tiles;
  uint8_t* out = a.out;
  for (int64_t k = 0; k < a.k; k += kDotBlock, tile += a.tile_stride, out += a.stride) {
    for (int q = 0; q < 8; ++q) {
      const WidePairs pairs = wide_pairs(tile, q);
      store_u(out + q * 8 * kLanes, pairs.even);
      store_u(out + q * 8 * kLanes + 4 * kLanes, pairs.odd);
    }
    store(reinterpret_cast<float*>(out + kWideScales), Format<DType::kQ8_0>::scales(tile, 0).d);
  }
}

PELTON_INLINE void add_pair(__m256i codes, __m256i x, __m256i& sum) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(codes, x));
  asm("" : "+x"(sum));
}
template <int kTokens>
PELTON_INLINE void add_pairs_of(U codes, const __m256i (&x)[kTokens], U (&sums)[kTokens]) {
  keep_loaded(codes);
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    add_pair(codes.lo, x[t], sums[t].lo);
    add_pair(codes.hi, x[t], sums[t].hi);
  }
}

// The chain of dot.h over tiles or unpacked weights, kGroups x kTokens outputs.
template <bool kUnpacked, int kGroups, int kTokens>
void wide_tile(const DotArgs& a) {
  using Fmt = Format<DType::kQ8_0>;
  constexpr int kBytes = kUnpacked ? kWideBytes : Fmt::kTileBytes;
  F acc[kGroups][kTokens];
  start_sums(a, acc);
  const uint8_t* w = a.weights;
  const uint8_t* ahead = a.prefetch;
  const auto* x = reinterpret_cast<const WideBlock*>(a.x);
  for (int64_t k = 0; k < a.k; k += kDotBlock, w += a.weight_stride, x += kTokens) {
    ahead = prefetch_lines(ahead, a.prefetch_lines);
    U sums[kGroups][kTokens];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sums[g][t] = set1_u(static_cast<uint32_t>(x[t].start));
    }
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      __m256i even[kTokens], odd[kTokens];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        even[t] = set1_u(bits_of(x[t].x + 4 * q)).lo;
        odd[t] = set1_u(bits_of(x[t].x + 4 * q + 2)).lo;
      }
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        const uint8_t* at = w + g * kBytes;
        if constexpr (kUnpacked) {
          add_pairs_of(load_u(at + q * 8 * kLanes), even, sums[g]);
          add_pairs_of(load_u(at + q * 8 * kLanes + 4 * kLanes), odd, sums[g]);
        } else {
          const WidePairs pairs = wide_pairs(at, q);
          add_pairs_of(pairs.even, even, sums[g]);
          add_pairs_of(pairs.odd, odd, sums[g]);
        }
      }
    }
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      const uint8_t* at = w + g * kBytes;
      const F d =
          kUnpacked ? load(reinterpret_cast<const float*>(at + kWideScales)) : Fmt::scales(at, 0).d;
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        acc[g][t] = fma(to_float(sums[g][t]), mul(d, set1(x[t].scale)), acc[g][t]);
      }
    }
  }
  finish_sums(a, acc);
}

template <bool kUnpacked>
void wide(const DotArgs& a) {
  with_tokens<kTileTokens>(a.tokens, [&](auto tokens) PELTON_LAMBDA {
    constexpr int kTokens = decltype(tokens)::value;
    if (a.rows > kLanes) return wide_tile<kUnpacked, 2, kTokens>(a);
    wide_tile<kUnpacked, 1, kTokens>(a);
  });
}

constexpr DotTable make_wide_table() {
  DotTable table;
  table.name = "madd";
  table.block_bytes = sizeof(WideBlock);
  table.tile_tokens = kTileTokens;
  table.unpack_tiles = 5;  // tiles are nearly as good
  table.pack = pack_wide;
  table.formats[static_cast<int>(DType::kQ8_0)] = {wide<false>, unpack_wide, wide<true>,
                                                   kWideBytes};
  return table;
}
constexpr DotTable kWideTable = make_wide_table();

}  // namespace
}  // namespace avx2

const DotTable& dot_avx2() {
  return avx2::kTable;
}
const DotTable& dot_avx2_wide() {
  return avx2::kWideTable;
}

}  // namespace pelton::cpu
