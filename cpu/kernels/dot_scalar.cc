// int8 dot products in plain C++: the fallback, and what the others must equal.
#include "cpu/kernels/dot.h"
#include "cpu/kernels/simd_scalar.h"

namespace pelton::cpu {
namespace scalar {
namespace {

#include "cpu/kernels/formats.inl.h"

constexpr bool kSigned8 = true;
constexpr int kTileTokens = 2, kUnpackTiles = 4;  // few kernels: this is compiled for rightness

PELTON_INLINE U set1_u(uint32_t x) {
  return map_u([&](int) { return x; });
}
PELTON_INLINE void store_u(void* p, U a) {
  std::memcpy(p, a.v, sizeof(a.v));
}
template <int kMask>
PELTON_INLINE U keep_bits(U a) {
  return map_u([&](int i) { return a.v[i] & kMask; });
}
PELTON_INLINE U merge_or(U a, U b) {
  return map_u([&](int i) { return a.v[i] | b.v[i]; });
}
PELTON_INLINE void keep_loaded(U&) {}
PELTON_INLINE U flip_signs(U a) {
  return map_u([&](int i) { return a.v[i] ^ 0x80808080U; });
}
PELTON_INLINE F to_float(U a) {
  return map([&](int i) { return static_cast<float>(static_cast<int32_t>(a.v[i])); });
}
PELTON_INLINE void store_low_bytes(int8_t* p, F a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(std::bit_cast<uint32_t>(a.v[i]));
}

PELTON_INLINE U add_u8(U a, U b) {
  return map_u([&](int i) {
    return ((a.v[i] & 0x00FF00FFU) + (b.v[i] & 0x00FF00FFU)) |
           ((a.v[i] & 0xFF00FF00U) + (b.v[i] & 0xFF00FF00U));  // no byte overflows
  });
}
PELTON_INLINE U add_u16(U a, U b) {
  return map_u([&](int i) {
    return ((a.v[i] + b.v[i]) & 0xFFFFU) | ((a.v[i] & 0xFFFF0000U) + (b.v[i] & 0xFFFF0000U));
  });
}
template <bool kSigned>
PELTON_INLINE U add_pairs(U a) {
  const auto byte = [](uint32_t word, int j) {
    const auto code = static_cast<uint8_t>(word >> (8 * j));
    return kSigned ? static_cast<int8_t>(code) : int{code};
  };
  return map_u([&](int i) {
    const int low = byte(a.v[i], 0) + byte(a.v[i], 1), high = byte(a.v[i], 2) + byte(a.v[i], 3);
    return (static_cast<uint32_t>(low) & 0xFFFFU) | static_cast<uint32_t>(high) << 16;
  });
}

template <int kBits>
struct Dot {
  U acc;
  void start(U init) { acc = init; }
  template <int kQuad>
  void add(U codes, U x) {
    for (int i = 0; i < kLanes; ++i) {
      int32_t sum = 0;
      for (int j = 0; j < 4; ++j) {
        const auto code = static_cast<uint8_t>(codes.v[i] >> (8 * j));
        const int32_t weight = kBits == 8 ? static_cast<int8_t>(code) : code;
        sum += weight * static_cast<int8_t>(x.v[i] >> (8 * j));
      }
      acc.v[i] += static_cast<uint32_t>(sum);
    }
  }
  U sum(U code_sums, U zero_pair) const {
    return map_u([&](int i) {
      const int32_t codes =
          static_cast<int16_t>(code_sums.v[i]) + static_cast<int16_t>(code_sums.v[i] >> 16);
      return acc.v[i] + static_cast<uint32_t>(codes * static_cast<int16_t>(zero_pair.v[i]));
    });
  }
};

#include "cpu/kernels/dot.inl.h"

constexpr DotTable kTable = make_dot_table("scalar");

}  // namespace
}  // namespace scalar

const DotTable& dot_scalar() {
  return scalar::kTable;
}

}  // namespace pelton::cpu
