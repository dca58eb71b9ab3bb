// GEMV, panel dequantisation and GEMM. See GemvArgs for the one order of summation.

template <typename Fmt, int kGroups, int kTokens>
void gemv_tile(const uint8_t* tile, const GemvArgs& a, int first_row) {
  F acc[kGroups][kTokens];
  for (auto& group : acc) {
    for (F& sum : group) sum = zero();
  }
  const float* x[kTokens];  // rows beyond the last repeat it: there may be no kernel for so many
  for (int t = 0; t < kTokens; ++t) {
    x[t] = a.x + (t < a.tokens ? t : a.tokens - 1) * a.x_stride;
  }
  const float* x_at[kTokens];
  for (int64_t k = 0; k < a.k; k += Fmt::kBlock, tile += a.tile_stride) {
    prefetch_ahead<Fmt>(tile, kGroups * Fmt::kTileBytes);
    for (int sub = 0; sub < Fmt::kBlock / 8 / Fmt::kOctets; ++sub) {
      Scales scales[kGroups];
      for (int g = 0; g < kGroups; ++g) {
        scales[g] = Fmt::scales(tile + g * Fmt::kTileBytes, sub);
      }
      for (int o = sub * Fmt::kOctets; o < (sub + 1) * Fmt::kOctets; ++o) {
        for (int t = 0; t < kTokens; ++t) x_at[t] = x[t] + k + 8 * o;
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) {
          Fmt::octet(tile + g * Fmt::kTileBytes, o, scales[g], [&](auto j, F w) PELTON_LAMBDA {
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) {
              acc[g][t] = fma(w, set1(x_at[t][decltype(j)::value]), acc[g][t]);
            }
          });
        }
      }
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    const int row = first_row + g * kLanes;
    const int n = a.rows - row < kLanes ? a.rows - row : kLanes;
    const F bias = a.bias != nullptr ? load_n(a.bias + row, n) : zero();
    for (int t = 0; t < kTokens && t < a.tokens; ++t) {
      const F sum = a.bias != nullptr ? add(acc[g][t], bias) : acc[g][t];
      float* out = a.out + t * a.out_stride + row;
      if (n == kLanes) {
        store(out, sum);
      } else {
        store_n(out, sum, n);
      }
    }
  }
}

template <typename Fmt, int kGroups>
PELTON_INLINE void gemv_groups(const GemvArgs& a, int first_row) {
  const uint8_t* tile = a.tiles + first_row / kLanes * Fmt::kTileBytes;
  const auto run = [&](auto tokens) PELTON_LAMBDA {
    gemv_tile<Fmt, kGroups, decltype(tokens)::value>(tile, a, first_row);
  };
  constexpr int kMost = kGroups == 4 ? 4 : kMaxGemvTokens;
  // A kernel for each size only where float32 is the usual way: they take long to compile.
  if constexpr (kGroups > 1 && Fmt::kLayout.code_bits >= 16) {
    return with_tokens<kMost>(a.tokens, run);
  }
  if (a.tokens == 1) return run(Const<1>{});
  if (a.tokens == 2) return run(Const<2>{});
  if (a.tokens <= 4) return run(Const<4>{});
  run(Const<kMost>{});
}

template <DType kDType>
void gemv(const GemvArgs& a) {
  using Fmt = Format<kDType>;
  int row = 0;
  if constexpr (kGemvGroups == 4) {
    for (; a.tokens <= 4 && a.rows - row > 3 * kLanes; row += 4 * kLanes)
      gemv_groups<Fmt, 4>(a, row);
  }
  if constexpr (kGemvGroups >= 2) {
    for (; a.rows - row > kLanes; row += 2 * kLanes) gemv_groups<Fmt, 2>(a, row);
  }
  for (; row < a.rows; row += kLanes) gemv_groups<Fmt, 1>(a, row);
}

template <DType kDType>
void dequantize_group(const DequantizeArgs& a) {
  using Fmt = Format<kDType>;
  const uint8_t* tile = a.tiles;
  float* out = a.panel;
  for (int64_t k = 0; k < a.k_count; k += Fmt::kBlock, tile += a.tile_stride) {
    prefetch_ahead<Fmt>(tile, Fmt::kTileBytes);
    for (int sub = 0; sub < Fmt::kBlock / 8 / Fmt::kOctets; ++sub) {
      const Scales scales = Fmt::scales(tile, sub);
      for (int o = sub * Fmt::kOctets; o < (sub + 1) * Fmt::kOctets; ++o) {
        Fmt::octet(tile, o, scales, [&](auto j, F w) PELTON_LAMBDA {
          store(out + decltype(j)::value * a.panel_stride, w);
        });
        out += 8 * a.panel_stride;
      }
    }
  }
}

template <int kTokens>
PELTON_INLINE void gemm_tile(const GemmArgs& a) {
  F acc[kGemmGroups][kTokens];
  int lanes[kGemmGroups];
  for (int g = 0; g < kGemmGroups; ++g) {
    const int left = a.rows - g * kLanes;
    lanes[g] = left < 0 ? 0 : left < kLanes ? left : kLanes;
    for (int t = 0; t < kTokens; ++t) {
      const float* out = a.out + t * a.out_stride + g * kLanes;
      acc[g][t] = a.first ? zero() : lanes[g] == kLanes ? load(out) : load_n(out, lanes[g]);
    }
  }
  const float* w = a.panel;
  const float* x = a.x;
  const uint8_t* ahead = a.prefetch;
  for (int64_t k = 0; k < a.k; k += 8) {
    ahead = prefetch_lines(ahead, a.prefetch_lines);
#pragma GCC unroll 4
    for (int j = 0; j < 8; ++j) {
      F weights[kGemmGroups];
      for (int g = 0; g < kGemmGroups; ++g) weights[g] = load(w + g * kLanes);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const F value = set1(x[t]);
#pragma GCC unroll 2
        for (int g = 0; g < kGemmGroups; ++g) acc[g][t] = fma(weights[g], value, acc[g][t]);
      }
      w += kGemmGroups * kLanes;
      x += kTokens;
    }
  }
  for (int g = 0; g < kGemmGroups; ++g) {
    const F bias = a.bias != nullptr ? load_n(a.bias + g * kLanes, lanes[g]) : zero();
    for (int t = 0; t < kTokens; ++t) {
      const F sum = a.bias != nullptr ? add(acc[g][t], bias) : acc[g][t];
      float* out = a.out + t * a.out_stride + g * kLanes;
      if (lanes[g] == kLanes) {
        store(out, sum);
      } else {
        store_n(out, sum, lanes[g]);
      }
    }
  }
}

void gemm(const GemmArgs& a) {
  with_tokens<kGemmTokens>(
      a.tokens, [&](auto tokens) PELTON_LAMBDA { gemm_tile<decltype(tokens)::value>(a); });
}
