// Products over BF16 weights by vdpbf16ps: activations rounded to bf16, for each output one chain
// over the pairs of k in ascending order, each step with the instruction's own rounding.
#include "cpu/kernels/dot.h"
#include "cpu/kernels/simd_avx512.h"

namespace pelton::cpu {
namespace avx512 {
namespace {

#include "cpu/kernels/formats.inl.h"

constexpr int kBlockK = tile_layout(DType::kBF16).block;
constexpr int kTileBytes = tile_layout(DType::kBF16).bytes;
constexpr int kPairBytes = 4 * kLanes;  // of a group
constexpr int kTileTokens = 12;

PELTON_INLINE __m512bh as_pairs(U a) {
  return reinterpret_cast<__m512bh>(a);
}

template <int kGroups, int kTokens>
void tile(const DotArgs& a) {
  F acc[kGroups][kTokens];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const int left = a.rows - g * kLanes;
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
      acc[g][t] =
          a.first ? zero()
                  : load_n(a.out + t * a.out_stride + g * kLanes, left < kLanes ? left : kLanes);
    }
  }
  const uint8_t* w = a.weights;
  const uint8_t* ahead = a.prefetch;
  const auto* x = reinterpret_cast<const uint32_t*>(a.x);
  for (int64_t k = 0; k < a.k; k += kBlockK, w += a.weight_stride) {
    if (k % kDotBlock == 0) {
      for (int i = 0; i < a.prefetch_lines; ++i) __builtin_prefetch(ahead + 64 * i, 0, 3);
      ahead += 64 * a.prefetch_lines;
    }
#pragma GCC unroll 4
    for (int pair = 0; pair < kBlockK / 2; ++pair, x += kTokens) {
      U weights[kGroups];
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) weights[g] = load_u(w + g * kTileBytes + pair * kPairBytes);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        const U value = _mm512_set1_epi32(static_cast<int>(x[t]));
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) {
          acc[g][t] = _mm512_dpbf16_ps(acc[g][t], as_pairs(weights[g]), as_pairs(value));
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const int row = g * kLanes;
    const int n = a.rows - row < kLanes ? a.rows - row : kLanes;
    const F bias = a.bias != nullptr ? load_n(a.bias + row, n) : zero();
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
      const F sum = a.bias != nullptr ? add(acc[g][t], bias) : acc[g][t];
      store_n(a.out + t * a.out_stride + row, sum, n);
    }
  }
}

template <int kGroups>
PELTON_INLINE void product_groups(const DotArgs& a) {
  with_tokens<kTileTokens>(
      a.tokens, [&](auto tokens) PELTON_LAMBDA { tile<kGroups, decltype(tokens)::value>(a); });
}

void product(const DotArgs& a) {
  if (a.rows > kLanes) return product_groups<2>(a);
  product_groups<1>(a);
}

// Sixteen values rounded to bf16, ties to even; a NaN stays one.
PELTON_INLINE __m256i to_bf16(F x) {
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
}

void pack(const PackArgs& a) {
  for (int t = 0; t < a.tokens; ++t) {
    auto* out = reinterpret_cast<uint32_t*>(a.out) + t;
    for (int64_t k = 0; k < a.blocks * kDotBlock; k += kLanes, out += kLanes / 2 * a.tokens) {
      const int64_t left = k < a.cols ? a.cols - k : 0;
      const int n = left < kLanes ? static_cast<int>(left) : kLanes;
      alignas(32) uint32_t pairs[kLanes / 2];
      _mm256_store_si256(reinterpret_cast<__m256i*>(pairs),
                         to_bf16(n == 0 ? zero() : load_n(a.x + t * a.x_stride + k, n)));
      for (int i = 0; i < kLanes / 2; ++i) out[i * a.tokens] = pairs[i];
    }
  }
}

constexpr DotTable make_table() {
  DotTable table;
  table.name = "bf16";
  table.block_bytes = kBf16BlockBytes;
  table.tile_tokens = kTileTokens;
  table.pack = pack;
  table.formats[static_cast<int>(DType::kBF16)] = {product, nullptr, nullptr};
  return table;
}
constexpr DotTable kTable = make_table();

}  // namespace
}  // namespace avx512

const DotTable& bf16_avx512() {
  return avx512::kTable;
}

}  // namespace pelton::cpu
