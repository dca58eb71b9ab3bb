// Weight formats, read from their tiles: eight values of k at a time as float32 lanes, each exactly
// the reference value of backend/quantized_blocks.h (d * q is exact, so the one fused
// multiply-add rounds once, as the reference does).
// No include guard: once in each kernels_*.cc, inside its namespace.

template <int N>
struct Const {
  static constexpr int value = N;
};
template <typename Fn>
PELTON_INLINE void for_eight(Fn&& fn) {
  fn(Const<0>{});
  fn(Const<1>{});
  fn(Const<2>{});
  fn(Const<3>{});
  fn(Const<4>{});
  fn(Const<5>{});
  fn(Const<6>{});
  fn(Const<7>{});
}

// fn(Const<tokens>), which is 1 .. kMost.
template <int kMost, typename Fn>
PELTON_INLINE void with_tokens(int tokens, Fn&& fn) {
  if constexpr (kMost > 1) {
    if (tokens < kMost) return with_tokens<kMost - 1>(tokens, fn);
  }
  fn(Const<kMost>{});
}

// w = d * q + m
struct Scales {
  F d, m;
};

template <DType kDType>
struct Format {
  static constexpr TileLayout kLayout = tile_layout(kDType);
  static constexpr int kBlock = kLayout.block;
  static constexpr int kTileBytes = kLayout.bytes;
  static constexpr int kOctets = kLayout.sub_block / 8;  // octets that share scales
  static constexpr int kCodeBits = 4 + kLayout.high_bits;

  // Scales of sub-block `sub` of the tile. Unused members are left out by the optimiser.
  static PELTON_FORCE_INLINE Scales scales(const uint8_t* tile, int sub) {
    Scales s = {zero(), zero()};
    if constexpr (kLayout.d >= 0) s.d = load_half(tile + kLayout.d);
    if constexpr (kDType == DType::kQ4_0) s.m = mul(s.d, set1(-8));
    if constexpr (kDType == DType::kQ8_0) s.m = mul(s.d, set1(-128));
    if constexpr (kDType == DType::kQ5_0) s.m = mul(s.d, set1(-16));
    if constexpr (kDType == DType::kQ4_1 || kDType == DType::kQ5_1) {
      s.m = load_half(tile + kLayout.min);
    }
    if constexpr (kDType == DType::kQ4_K || kDType == DType::kQ5_K) {
      s.d = mul(s.d, load_u8(tile + kLayout.scales + sub * kLanes));
      const F min = mul(load_half(tile + kLayout.min), load_u8(tile + kLayout.mins + sub * kLanes));
      s.m = sub_from_zero(min);
    }
    if constexpr (kDType == DType::kQ6_K) {
      s.d = mul(s.d, load_i8(tile + kLayout.scales + sub * kLanes));
      s.m = mul(s.d, set1(-32));
    }
    return s;
  }

  // Calls fn(Const<j>, w) for the eight k of octet `octet` of the tile.
  template <typename Fn>
  static PELTON_FORCE_INLINE void octet(const uint8_t* tile, int octet, const Scales& s, Fn&& fn) {
    if constexpr (kLayout.code_bits == 4) {
      const U codes = load_u(tile + kLayout.codes + octet * 4 * kLanes);
      if constexpr (kLayout.high_bits == 0) {
        for_eight([&](auto j) PELTON_LAMBDA {
          fn(j, fma(from_low_bits<4>(shr<low_bit(decltype(j)::value)>(codes)), s.d, s.m));
        });
      } else {
        constexpr int per_word = 4 / kLayout.high_bits;  // octets
        const U high = shr_by(load_u(tile + kLayout.high + octet / per_word * 4 * kLanes),
                              octet % per_word * 2 * kLayout.high_bits);
        for_eight([&](auto j) PELTON_LAMBDA {
          constexpr int kJ = decltype(j)::value;
          // Its high bits to bit 4.
          constexpr int kShift = 8 * (kJ % 4) + kJ / 4 * kLayout.high_bits - 4;
          U above;
          if constexpr (kShift >= 0) {
            above = shr<kShift>(high);
          } else {
            above = shl<-kShift>(high);
          }
          const U code = merge_bits<4>(shr<low_bit(kJ)>(codes), above);
          fn(j, fma(from_low_bits<kCodeBits>(code), s.d, s.m));
        });
      }
    } else if constexpr (kDType == DType::kQ8_0 || kDType == DType::kBF16) {
      constexpr int kRun = 32 / kLayout.code_bits;  // k in a lane's 32 bits
      const uint8_t* w = tile + kLayout.codes + octet * kLayout.code_bits * kLanes;
      for_eight([&](auto j) PELTON_LAMBDA {
        constexpr int kJ = decltype(j)::value;
        const U codes = load_u(w + kJ / kRun * 4 * kLanes);
        if constexpr (kDType == DType::kQ8_0) {
          fn(j, fma(from_low_bits<8>(shr<8 * (kJ % 4)>(codes)), s.d, s.m));
        } else if constexpr (kJ % 2 == 0) {
          fn(j, as_float(shl<16>(codes)));
        } else {
          fn(j, as_float(shl<16>(shr<16>(codes))));
        }
      });
    } else {
      const uint8_t* w = tile + kLayout.codes + octet * kLayout.code_bits * kLanes;
      for_eight([&](auto j) PELTON_LAMBDA {
        const uint8_t* at = w + decltype(j)::value * kLayout.code_bits / 8 * kLanes;
        if constexpr (kDType == DType::kF16) fn(j, load_half(at));
        if constexpr (kDType == DType::kF32) fn(j, load(reinterpret_cast<const float*>(at)));
      });
    }
  }

 private:
  // Where the low four bits of the octet's value j stand in its word.
  static constexpr int low_bit(int j) { return 8 * (j % 4) + 4 * (j / 4); }
  static PELTON_FORCE_INLINE F sub_from_zero(F a) { return sub(zero(), a); }
};

PELTON_INLINE const uint8_t* prefetch_lines(const uint8_t* at, int lines) {
  for (int i = 0; i < lines; ++i) __builtin_prefetch(at + 64 * i, 0, 3);
  return at + 64 * lines;
}

// The lines of a tile some 2 KiB further on.
template <typename Fmt>
PELTON_INLINE void prefetch_ahead(const uint8_t* tile, int bytes) {
  constexpr int kAhead = 2048;
  for (int at = 0; at < bytes; at += 64) __builtin_prefetch(tile + kAhead + at, 0, 3);
}
