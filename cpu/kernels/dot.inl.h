// The body of dot_*.cc, over the vocabulary of simd_*.h and this, which each of them defines:
//   kSigned8, kTileTokens, kUnpackTiles
//   set1_u, store_u, keep_bits, merge_or, keep_loaded, flip_signs, to_float, store_low_bytes
//   add_u8, add_u16; add_pairs<kSigned>(a): bytes to 16-bit sums of two neighbours
//   Dot<kBits>: start(init), add<quad>(codes, x), sum(code_sums, zero)
// A weight format, for dot products: quads of unsigned codes (of Q8_0 signed where kSigned8).

template <DType kDType>
struct DotCodes {
  using Fmt = Format<kDType>;
  static constexpr TileLayout kLayout = Fmt::kLayout;
  static constexpr int kBits = kLayout.code_bits == 8 ? 8 : 4 + kLayout.high_bits;
  static constexpr int kQuads = kLayout.sub_block / 4;
  static constexpr bool kMin = kDType == DType::kQ4_1 || kDType == DType::kQ5_1 ||
                               kDType == DType::kQ4_K || kDType == DType::kQ5_K;
  // w = d * (code - 2^kShift); 0: no offset.
  static constexpr int kShift = kMin ? 0 : kBits == 8 ? (kSigned8 ? 0 : 7) : kBits - 1;

  // Quad `kQ` of half `half` of block `block` of the tile; where kQuads is 8 a block has one half.
  template <int kQ>
  static PELTON_FORCE_INLINE U quad(const uint8_t* tile, int block, int half) {
    if constexpr (kBits == 8) {
      const U codes = load_u(tile + kLayout.codes + (block * 8 + half * 4 + kQ) * 4 * kLanes);
      if constexpr (kSigned8) return flip_signs(codes);
      return codes;
    } else {
      U codes = load_u(tile + kLayout.codes + (block * 4 + half * 2 + kQ / 2) * 4 * kLanes);
      if constexpr (kQ % 2 != 0) codes = shr<4>(codes);
      codes = keep_bits<0x0F0F0F0F>(codes);
      if constexpr (kLayout.high_bits == 0) return codes;
      constexpr int kPerWord = 8 / (kLayout.high_bits == 0 ? 1 : kLayout.high_bits);  // quads
      constexpr int kMask = kLayout.high_bits == 2 ? 0x30303030 : 0x10101010;
      constexpr int kBit = kQ % kPerWord * kLayout.high_bits;
      const U high = load_u(tile + kLayout.high +
                            (block * (8 / kPerWord) + (half * 4 + kQ) / kPerWord) * 4 * kLanes);
      if constexpr (kBit <= 4) return merge_or(codes, keep_bits<kMask>(shl<4 - kBit>(high)));
      return merge_or(codes, keep_bits<kMask>(shr<(kBit > 4 ? kBit - 4 : 0)>(high)));
    }
  }
};

template <int kCount, typename Fn>
PELTON_INLINE void for_quads(Fn&& fn) {
  fn(Const<0>{});
  fn(Const<1>{});
  fn(Const<2>{});
  fn(Const<3>{});
  if constexpr (kCount == 8) {
    fn(Const<4>{});
    fn(Const<5>{});
    fn(Const<6>{});
    fn(Const<7>{});
  }
}

PELTON_INLINE uint32_t bits_of(const void* p) {
  uint32_t bits;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return bits;
}

// Sums of a block's codes in pairs of 16 bits a lane, to be multiplied by an activation's zero.
template <int kBits>
struct CodeSums {
  U sums;
  template <int kQuad>
  PELTON_FORCE_INLINE void add(U codes) {
    if constexpr (kBits == 8) {
      const U pairs = add_pairs<kSigned8>(codes);
      sums = kQuad == 0 ? pairs : add_u16(sums, pairs);
    } else {  // 8 * 31 and 4 * 63 fit a byte
      sums = kQuad == 0 ? codes : add_u8(sums, codes);
    }
  }
  PELTON_FORCE_INLINE U pairs() const { return kBits == 8 ? sums : add_pairs<false>(sums); }
};

// What each of the sums of half `half` of a block starts from.
template <int kQuads, int kShift>
PELTON_INLINE U dot_init(const Int8Block* x, int half) {
  if constexpr (kShift == 0) return set1_u(0);
  int32_t sum = x->negative_sum;
  if constexpr (kQuads == 4) {
    sum = half == 0 ? x->negative_sum_low : x->negative_sum - x->negative_sum_low;
    return shl<kShift>(set1_u(static_cast<uint32_t>(sum)));
  }
  return shl<kShift>(set1_u(static_cast<uint32_t>(sum)));
}

// One step of the chain for kGroups x kTokens outputs: kQuads quads of k.
//   codes(group, Const<quad>) -> U; sums: [kGroups], made here where kSum; scales: [kGroups]
template <int kBits, int kQuads, int kShift, bool kMin, bool kSum, int kGroups, int kTokens,
          typename Codes>
PELTON_INLINE void dot_step(const Int8Block* x, int half, const Scales* scales, U* sums,
                            Codes&& codes, F (&acc)[kGroups][kTokens]) {
  Dot<kBits> dot[kGroups][kTokens];
  CodeSums<kBits> made[kGroups];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    const U init = dot_init<kQuads, kShift>(x + t, half);
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) dot[g][t].start(init);
  }
  for_quads<kQuads>([&](auto q) PELTON_LAMBDA {
    constexpr int kQuad = decltype(q)::value;
    U w[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      w[g] = codes(g, q);
      if constexpr (kTokens > 1) keep_loaded(w[g]);
      if constexpr (kSum) made[g].template add<kQuad>(w[g]);
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const U xs = set1_u(bits_of(x[t].q + 4 * (half * kQuads + kQuad)));
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) dot[g][t].template add<kQuad>(w[g], xs);
    }
  });
  if constexpr (kSum) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) sums[g] = made[g].pairs();
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    const F scale = set1(x[t].scale);
    const U zero_pair = set1_u(bits_of(x[t].zero));
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      const F sum = to_float(dot[g][t].sum(sums[g], zero_pair));
      acc[g][t] = fma(sum, mul(scales[g].d, scale), acc[g][t]);
      if constexpr (kMin) acc[g][t] = fma(scales[g].m, set1(x[t].scaled_sum), acc[g][t]);
    }
  }
}

// Whole groups, the usual case, keep their sums in registers from end to end.
template <int kGroups>
PELTON_INLINE bool is_whole(const DotArgs& a) {
  return a.rows == kGroups * kLanes;
}

template <int kGroups, int kTokens>
PELTON_INLINE void start_sums(const DotArgs& a, F (&acc)[kGroups][kTokens]) {
  const bool whole = is_whole<kGroups>(a);
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const int left = a.rows - g * kLanes;
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const float* out = a.out + t * a.out_stride + g * kLanes;
      acc[g][t] = a.first ? zero() : whole || left >= kLanes ? load(out) : load_n(out, left);
    }
  }
}

template <int kGroups, int kTokens>
PELTON_INLINE void finish_whole(const DotArgs& a, const F (&acc)[kGroups][kTokens]) {
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const F bias = a.bias != nullptr ? load(a.bias + g * kLanes) : zero();
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const F sum = a.bias != nullptr ? add(acc[g][t], bias) : acc[g][t];
      store(a.out + t * a.out_stride + g * kLanes, sum);
    }
  }
}

template <int kGroups, int kTokens>
PELTON_INLINE void finish_sums(const DotArgs& a, const F (&acc)[kGroups][kTokens]) {
  if (is_whole<kGroups>(a)) return finish_whole(a, acc);
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const int row = g * kLanes;
    const int n = a.rows - row < kLanes ? a.rows - row : kLanes;
    const F bias = a.bias != nullptr ? load_n(a.bias + row, n) : zero();
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const F sum = a.bias != nullptr ? add(acc[g][t], bias) : acc[g][t];
      store_n(a.out + t * a.out_stride + row, sum, n);
    }
  }
}

template <DType kDType, int kGroups, int kTokens>
void direct_tile(const DotArgs& a) {
  using Codes = DotCodes<kDType>;
  using Fmt = Format<kDType>;
  F acc[kGroups][kTokens];
  start_sums(a, acc);
  const uint8_t* tile = a.weights;
  const uint8_t* ahead = a.prefetch;
  const auto* x = reinterpret_cast<const Int8Block*>(a.x);
  for (int64_t k = 0; k < a.k; k += Fmt::kBlock, tile += a.weight_stride) {
    for (int block = 0; block < Fmt::kBlock / kDotBlock; ++block, x += kTokens) {
      ahead = prefetch_lines(ahead, a.prefetch_lines);
#pragma GCC unroll 2
      for (int half = 0; half < 8 / Codes::kQuads; ++half) {
        Scales scales[kGroups];
        U sums[kGroups];
#pragma GCC unroll 2
        for (int g = 0; g < kGroups; ++g) {
          scales[g] = Fmt::scales(tile + g * Fmt::kTileBytes, block * (8 / Codes::kQuads) + half);
        }
        const auto codes = [&](int g, auto q) PELTON_LAMBDA {
          return Codes::template quad<decltype(q)::value>(tile + g * Fmt::kTileBytes, block, half);
        };
        dot_step<Codes::kBits, Codes::kQuads, Codes::kShift, Codes::kMin, true>(x, half, scales,
                                                                                sums, codes, acc);
      }
    }
  }
  finish_sums(a, acc);
}

template <DType kDType, int kGroups>
PELTON_INLINE void direct_groups(const DotArgs& a) {
  with_tokens<kTileTokens>(a.tokens, [&](auto tokens) PELTON_LAMBDA {
    direct_tile<kDType, kGroups, decltype(tokens)::value>(a);
  });
}

template <DType kDType>
void direct(const DotArgs& a) {
  if (a.rows > kLanes) return direct_groups<kDType, 2>(a);
  direct_groups<kDType, 1>(a);
}

template <DType kDType>
void unpack(const UnpackArgs& a) {
  using Codes = DotCodes<kDType>;
  using Fmt = Format<kDType>;
  const uint8_t* tile = a.tiles;
  uint8_t* out = a.out;
  for (int64_t k = 0; k < a.k; k += Fmt::kBlock, tile += a.tile_stride) {
    for (int block = 0; block < Fmt::kBlock / kDotBlock; ++block, out += a.stride) {
      CodeSums<Codes::kBits> sums[2];
      for_quads<8>([&](auto q) PELTON_LAMBDA {
        constexpr int kQ = decltype(q)::value;
        const U codes = Codes::template quad<kQ % Codes::kQuads>(tile, block, kQ / Codes::kQuads);
        store_u(out + kQ * 4 * kLanes, codes);
        sums[kQ / Codes::kQuads].template add<kQ % Codes::kQuads>(codes);
      });
      store_u(out + kUnpackedSums, sums[0].pairs());
      if constexpr (Codes::kQuads == 4) {
        store_u(out + kUnpackedSums + 4 * kLanes, sums[1].pairs());
      }
      auto* scales = reinterpret_cast<float*>(out + kUnpackedScales);
      const Scales s = Fmt::scales(tile, Codes::kQuads == 8 ? block : 2 * block);
      store(scales, s.d);
      if constexpr (Codes::kQuads == 4) {
        store(scales + kLanes, Fmt::scales(tile, 2 * block + 1).d);
      } else if constexpr (Codes::kMin) {
        store(scales + kLanes, s.m);
      }
    }
  }
}

template <int kBits, int kQuads, int kShift, bool kMin, int kGroups, int kTokens>
void product_tile(const DotArgs& a) {
  F acc[kGroups][kTokens];
  start_sums(a, acc);
  const uint8_t* w = a.weights;
  const uint8_t* ahead = a.prefetch;
  const auto* x = reinterpret_cast<const Int8Block*>(a.x);
  for (int64_t k = 0; k < a.k; k += kDotBlock, w += a.weight_stride, x += kTokens) {
    ahead = prefetch_lines(ahead, a.prefetch_lines);
#pragma GCC unroll 2
    for (int half = 0; half < 8 / kQuads; ++half) {
      Scales scales[kGroups];
      U sums[kGroups];
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        const uint8_t* at = w + g * kUnpackedBytes;
        const auto* s = reinterpret_cast<const float*>(at + kUnpackedScales);
        scales[g].d = load(s + half * kLanes);
        scales[g].m = kMin ? load(s + kLanes) : zero();
        sums[g] = load_u(at + kUnpackedSums + half * 4 * kLanes);
      }
      const auto codes = [&](int g, auto q) PELTON_LAMBDA {
        return load_u(w + g * kUnpackedBytes + (half * kQuads + decltype(q)::value) * 4 * kLanes);
      };
      dot_step<kBits, kQuads, kShift, kMin, false>(x, half, scales, sums, codes, acc);
    }
  }
  finish_sums(a, acc);
}

template <int kBits, int kQuads, int kShift, bool kMin, int kGroups>
PELTON_INLINE void product_groups(const DotArgs& a) {
  with_tokens<kTileTokens>(a.tokens, [&](auto tokens) PELTON_LAMBDA {
    product_tile<kBits, kQuads, kShift, kMin, kGroups, decltype(tokens)::value>(a);
  });
}

template <DType kDType>
void product(const DotArgs& a) {
  using C = DotCodes<kDType>;
  if (a.rows > kLanes) return product_groups<C::kBits, C::kQuads, C::kShift, C::kMin, 2>(a);
  product_groups<C::kBits, C::kQuads, C::kShift, C::kMin, 1>(a);
}

PELTON_INLINE void quantize_block(const float* x, int n, Int8Block* out) {
  const F low = n >= kLanes ? load(x) : load_n(x, n);
  const F high = n >= kDotBlock ? load(x + kLanes)
                 : n > kLanes   ? load_n(x + kLanes, n - kLanes)
                                : zero();
  const float top = reduce_max(max(low, high));
  const float bottom = -reduce_max(max(sub(zero(), low), sub(zero(), high)));
  const float range = top - bottom, size = top > -bottom ? top : -bottom;
  const float span = range > size ? range : size;
  const bool finite = !any_nan(add(sub(low, low), sub(high, high))) && span < __builtin_inff();
  if (!finite) {
    *out = {{}, __builtin_nanf(""), __builtin_nanf(""), 0, 0, {}};
    return;
  }
  // So small that 253 / span may overflow: as good as zero.
  if (span < 1e-30F) {
    *out = {};
    return;
  }
  const F inverse = set1(253.0F / span);  // half of it is 126.5: q and the zero are rounded apart
  const F magic = set1(12582912.0F);  // 1.5 * 2^23: an integer added to it stands in the low bits
  float middle[kLanes];
  store(middle, sub(add(mul(set1(0.5F * top + 0.5F * bottom), inverse), magic), magic));
  const F zero_point = set1(middle[0]);
  const F low_codes = sub(sub(add(mul(low, inverse), magic), magic), zero_point);
  const F high_codes = sub(sub(add(mul(high, inverse), magic), magic), zero_point);
  store_low_bytes(out->q, add(low_codes, magic));
  store_low_bytes(out->q + kLanes, add(high_codes, magic));
  const float low_sum = reduce_add(low_codes) + 16 * middle[0];
  const float sum = low_sum + reduce_add(high_codes) + 16 * middle[0];
  out->scale = span / 253.0F;
  out->scaled_sum = out->scale * sum;
  out->negative_sum = -static_cast<int32_t>(sum);
  out->negative_sum_low = -static_cast<int32_t>(low_sum);
  out->zero[0] = out->zero[1] = static_cast<int16_t>(middle[0]);
}

void pack_int8(const PackArgs& a) {
  for (int t = 0; t < a.tokens; ++t) {
    auto* out = reinterpret_cast<Int8Block*>(a.out) + t;
    const float* x = a.x + t * a.x_stride;
    for (int64_t b = 0; b < a.blocks; ++b, out += a.tokens) {
      const int64_t left = a.cols - b * kDotBlock;
      quantize_block(x + b * kDotBlock, left < kDotBlock ? static_cast<int>(left) : kDotBlock, out);
    }
  }
}

template <DType kDType>
constexpr void add_dot_format(DotTable& table) {
  table.formats[static_cast<int>(kDType)] = {direct<kDType>, unpack<kDType>, product<kDType>};
}

template <bool kOf8Bits = true>
constexpr DotTable make_dot_table(const char* name) {
  DotTable table;
  table.name = name;
  table.block_bytes = sizeof(Int8Block);
  table.tile_tokens = kTileTokens;
  table.unpack_tiles = kUnpackTiles;
  table.pack = pack_int8;
  if constexpr (kOf8Bits) add_dot_format<DType::kQ8_0>(table);
  add_dot_format<DType::kQ4_0>(table);
  add_dot_format<DType::kQ4_1>(table);
  add_dot_format<DType::kQ5_0>(table);
  add_dot_format<DType::kQ5_1>(table);
  add_dot_format<DType::kQ4_K>(table);
  add_dot_format<DType::kQ5_K>(table);
  add_dot_format<DType::kQ6_K>(table);
  return table;
}
