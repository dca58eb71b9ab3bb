// Attention of a few query rows over the paged context, split by split (AttentionArgs). An int8
// cache keeps codes and, for each token, one scale of its keys and one of its values: a key's scale
// multiplies the finished dot product, a value's scale the token's weight.

inline constexpr int kMaxHeadDim = 512;
inline constexpr int kScoreStride = kSplitTokens + kLanes;  // a last store may run over by 15

// Where a split is worked on. kRows: as many rows as any caller's kRows.
inline constexpr int kWorkRows = kTileRows > kAttentionRows ? kTileRows : kAttentionRows;
struct SplitWork {
  const float* q = nullptr;  // [head_dim][kRows]
  float scores[kWorkRows * kScoreStride];
  float acc[kWorkRows * kMaxHeadDim];  // [rows][padded head_dim]
  float key_scales[kScoreStride];
  float value_scales[kScoreStride];
  Range range[kWorkRows];
  int prefetch_end = 0;  // position: what lies before this is wanted after the split
};

PELTON_INLINE int padded(int head_dim) {
  return (head_dim + kLanes - 1) / kLanes * kLanes;
}

// Scores of kVectors * 16 consecutive tokens for kRows rows. key_scales: of these tokens.
template <DType kDType, int kRows, int kVectors>
PELTON_INLINE void score_tile(const AttentionArgs& a, const uint8_t* keys, int offset, Ahead ahead,
                              const float* q, const float* key_scales, float* scores) {
  F acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) acc[r][v] = zero();
  }
  for (int d = 0; d < a.head_dim; ++d) {
    F k[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const int64_t element = d * a.key_stride + offset + v * kLanes;
      k[v] = load_kv<kDType>(keys, element);
      if (kRows <= 4) prefetch_ahead<kDType>(keys, element, v, ahead);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F value = set1(q[d * kRows + r]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma(value, k[v], acc[r][v]);
    }
  }
  const bool scaled = a.scale_offset != 0;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      F s = acc[r][v];
      if (scaled) s = mul(s, load(key_scales + v * kLanes));
      store(scores + r * kScoreStride + v * kLanes, mul(s, set1(a.scale)));
    }
  }
}

PELTON_INLINE void cap_scores(float* scores, Range range, float cap) {
  for (int at = range.begin / kLanes * kLanes; at < range.end; at += kLanes) {
    store(scores + at, mul(set1(cap), tanh(div(load(scores + at), set1(cap)))));
  }
}

template <DType kDType, int kRows>
PELTON_INLINE void score_split(const AttentionArgs& a, SplitWork& work, int split_begin, Range seen,
                               const ReadingOrder& order) {
  int t = max_int(seen.begin / kLanes * kLanes, seen.begin / a.block_size * a.block_size);
  while (t < seen.end) {
    const int offset = t % a.block_size;
    const int left = a.block_size - offset;
    const uint8_t* keys = block_of(a, t);
    const Ahead ahead = aheads_of(a, order, (t - order.begin) / a.block_size, keys);
    const float* key_scales = work.key_scales + (t - split_begin);
    float* scores = work.scores + (t - split_begin);
    if (kAttentionRows == 8 && left >= 2 * kLanes && seen.end - t > kLanes &&
        t + 2 * kLanes <= split_begin + kSplitTokens) {
      score_tile<kDType, kRows, 2>(a, keys, offset, ahead, work.q, key_scales, scores);
      t += 2 * kLanes;
    } else {
      score_tile<kDType, kRows, 1>(a, keys, offset, ahead, work.q, key_scales, scores);
      t += min_int(left, kLanes);
    }
  }
}

// The scales of an int8 cache's tokens, side by side.
PELTON_INLINE void gather_scales(const AttentionArgs& a, SplitWork& work, int split_begin,
                                 Range seen) {
  for (int t = seen.begin; t < seen.end;) {
    const int offset = t % a.block_size;
    const int count = min_int(a.block_size - offset, seen.end - t);
    const uint8_t* scales = block_of(a, t) + a.scale_offset;
    __builtin_memcpy(work.key_scales + (t - split_begin), scales + 4 * offset, 4 * count);
    __builtin_memcpy(work.value_scales + (t - split_begin), scales + 4 * (a.block_size + offset),
                     4 * count);
    t += count;
  }
}

// Scores to weights exp(s - max), zero outside the row's range.
template <bool kWhole>  // the range is whole vectors
PELTON_INLINE void soften(float* scores, Range range, AttentionState& state) {
  const F minus_infinity = set1(-__builtin_inff());
  const F lanes = [] {
    float iota[kLanes];
    for (int i = 0; i < kLanes; ++i) iota[i] = static_cast<float>(i);
    return load(iota);
  }();
  const auto keep = [&](F value, int at, F other) PELTON_LAMBDA {
    if constexpr (kWhole) return value;
    const F begin = set1(static_cast<float>(range.begin - at));
    const F end = set1(static_cast<float>(range.end - at));
    return select(less(lanes, end), select(less(lanes, begin), other, value), other);
  };
  F top = minus_infinity;
  const int first = range.begin / kLanes * kLanes;
  for (int at = first; at < range.end; at += kLanes) {
    top = max(top, keep(load(scores + at), at, minus_infinity));
  }
  state.max = reduce_max(top);
  F sum = zero();
  for (int at = first; at < range.end; at += kLanes) {
    const F weight = keep(exp(sub(load(scores + at), set1(state.max))), at, zero());
    store(scores + at, weight);
    sum = add(sum, weight);
  }
  state.sum = reduce_add(sum);
}

PELTON_INLINE void weigh(const AttentionArgs& a, SplitWork& work, int row, Range range,
                         AttentionState& state) {
  float* scores = work.scores + row * kScoreStride;
  if (a.softcap != 0) cap_scores(scores, range, a.softcap);
  if (range.begin % kLanes == 0 && range.end % kLanes == 0) {
    soften<true>(scores, range, state);
  } else {
    soften<false>(scores, range, state);
  }
  if (a.scale_offset == 0) return;
  for (int at = range.begin / kLanes * kLanes; at < range.end; at += kLanes) {
    store(scores + at, mul(load(scores + at), load(work.value_scales + at)));
  }
}

// acc[r][d] += sum over `count` tokens of weight[r][t] * value[t][d]; kVectors * 16 dimensions.
template <DType kDType, int kRows, int kVectors>
PELTON_INLINE void add_values_tile(const uint8_t* values, int head_dim, int dim, int count,
                                   Ahead ahead, const float* weights, float* acc, int acc_stride) {
  F sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(acc + r * acc_stride + dim + v * kLanes);
  }
  for (int t = 0; t < count; ++t) {
    F value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64_t element = static_cast<int64_t>(t) * head_dim + dim + v * kLanes;
      value[v] = load_kv<kDType>(values, element);
      if (kRows <= 4) prefetch_ahead<kDType>(values, element, v, ahead);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F weight = set1(weights[r * kScoreStride + t]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(weight, value[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(acc + r * acc_stride + dim + v * kLanes, sum[r][v]);
  }
}

template <DType kDType, int kRows>
PELTON_INLINE void add_values(const AttentionArgs& a, SplitWork& work, int first_row,
                              const ReadingOrder& order, Range range) {
  constexpr int kWide = kAttentionRows == 8 ? (kRows <= 4 ? 4 : 2) : (kRows == 1 ? 4 : 1);
  const int stride = padded(a.head_dim);
  float* acc = work.acc + first_row * stride;
  for (int t = range.begin; t < range.end;) {
    const int offset = t % a.block_size;
    const int count = min_int(a.block_size - offset, range.end - t);
    const uint8_t* block = block_of(a, t) + a.value_offset;
    const Ahead ahead = aheads_of(a, order, order.blocks + (t - order.begin) / a.block_size, block);
    const uint8_t* values = block + static_cast<int64_t>(offset) * a.head_dim * kKvBytes<kDType>;
    const float* weights = work.scores + first_row * kScoreStride + (t - order.split_begin);
    int dim = 0;
    for (; dim + kWide * kLanes <= stride; dim += kWide * kLanes) {
      add_values_tile<kDType, kRows, kWide>(values, a.head_dim, dim, count, ahead, weights, acc,
                                            stride);
    }
    for (; dim < stride; dim += kLanes) {
      add_values_tile<kDType, kRows, 1>(values, a.head_dim, dim, count, ahead, weights, acc,
                                        stride);
    }
    t += count;
  }
}

void merge_attention(AttentionState& into, const AttentionState& next, int head_dim) {
  if (next.sum == 0) return;
  const int stride = padded(head_dim);
  if (into.sum == 0) {
    for (int d = 0; d < stride; d += kLanes) store(into.acc + d, load(next.acc + d));
    into.max = next.max;
    into.sum = next.sum;
    return;
  }
  const float top = into.max > next.max ? into.max : next.max;
  float factors[kLanes] = {into.max - top, next.max - top};
  store(factors, exp(load(factors)));
  const F old_factor = set1(factors[0]), new_factor = set1(factors[1]);
  for (int d = 0; d < stride; d += kLanes) {
    store(into.acc + d, fma(load(next.acc + d), new_factor, mul(load(into.acc + d), old_factor)));
  }
  into.sum = __builtin_fmaf(next.sum, factors[1], into.sum * factors[0]);
  into.max = top;
}

// The same for several rows, their factors in one vector.
PELTON_INLINE void merge_rows(AttentionState* into, const AttentionState* next, int rows,
                              int head_dim) {
  float old_factors[kLanes] = {}, new_factors[kLanes] = {};
  for (int r = 0; r < rows; ++r) {
    const float top = into[r].max > next[r].max ? into[r].max : next[r].max;
    old_factors[r] = into[r].max - top;
    new_factors[r] = next[r].max - top;
  }
  store(old_factors, exp(load(old_factors)));
  store(new_factors, exp(load(new_factors)));
  const int stride = padded(head_dim);
  for (int r = 0; r < rows; ++r) {
    if (next[r].sum == 0) continue;
    if (into[r].sum == 0) {
      merge_attention(into[r], next[r], head_dim);
      continue;
    }
    const F old_factor = set1(old_factors[r]), new_factor = set1(new_factors[r]);
    float* acc = into[r].acc;
    for (int d = 0; d < stride; d += kLanes) {
      store(acc + d, fma(load(next[r].acc + d), new_factor, mul(load(acc + d), old_factor)));
    }
    into[r].sum = __builtin_fmaf(next[r].sum, new_factors[r], into[r].sum * old_factors[r]);
    into[r].max = into[r].max > next[r].max ? into[r].max : next[r].max;
  }
}

template <DType kDType, int kRows>
void attend_split(const AttentionArgs& a, SplitWork& work, int split, AttentionState* states) {
  const int split_begin = split * kSplitTokens;
  const int rows = min_int(a.rows, kRows);
  Range seen = {split_begin + kSplitTokens, split_begin};    // by any row
  Range common = {split_begin, split_begin + kSplitTokens};  // by all
  for (int r = 0; r < rows; ++r) {
    const Range range = {max_int(a.begin[r], split_begin),
                         min_int(a.end[r], split_begin + kSplitTokens)};
    work.range[r] = range;
    common = {max_int(common.begin, range.begin), min_int(common.end, range.end)};
    if (range.begin < range.end) {
      seen = {min_int(seen.begin, range.begin), max_int(seen.end, range.end)};
    }
  }
  if (seen.begin >= seen.end) return;
  if (a.scale_offset != 0) gather_scales(a, work, split_begin, seen);
  const ReadingOrder order = reading_order<kDType>(a, split_begin, seen, work.prefetch_end);
  score_split<kDType, kRows>(a, work, split_begin, seen, order);
  const int stride = padded(a.head_dim);
  AttentionState fresh[kRows] = {};
  for (int r = 0; r < rows; ++r) {
    const Range range = work.range[r];
    fresh[r].acc = work.acc + r * stride;
    for (int d = 0; d < stride; d += kLanes) store(fresh[r].acc + d, zero());
    if (range.begin >= range.end) continue;
    weigh(a, work, r, {range.begin - split_begin, range.end - split_begin}, fresh[r]);
  }
  if (kRows == rows && common.begin < common.end) {
    for (int r = 0; r < rows; ++r) {
      add_values<kDType, 1>(a, work, r, order, {work.range[r].begin, common.begin});
    }
    add_values<kDType, kRows>(a, work, 0, order, common);
    for (int r = 0; r < rows; ++r) {
      add_values<kDType, 1>(a, work, r, order, {common.end, work.range[r].end});
    }
  } else {
    for (int r = 0; r < rows; ++r) {
      add_values<kDType, 1>(a, work, r, order, work.range[r]);
    }
  }
  merge_rows(states, fresh, rows, a.head_dim);
}

// q: [head_dim][kRows]; rows beyond the last repeat it.
template <int kRows>
PELTON_INLINE void transpose_q(const AttentionArgs& a, float* q) {
  for (int r = 0; r < kRows; ++r) {
    const float* row = a.q[min_int(r, a.rows - 1)];
    for (int d = 0; d < a.head_dim; ++d) q[d * kRows + r] = row[d];
  }
}

template <DType kDType, int kRows>
void attend_rows(const AttentionArgs& a, int first, int last, AttentionState* states) {
  SplitWork work;
  float q[kMaxHeadDim * kRows];
  transpose_q<kRows>(a, q);
  work.q = q;
  work.prefetch_end = min_int(last * kSplitTokens, a.end[a.rows - 1]);
  for (int split = first; split < last; ++split) {
    attend_split<kDType, kRows>(a, work, split, states);
    if (a.apart) states += a.rows;
  }
}

template <DType kDType>
PELTON_INLINE void attend_dtype(const AttentionArgs& a, int first, int last,
                                AttentionState* states) {
  if constexpr (kAttentionRows == 8) {
    if (a.rows > 6) return attend_rows<kDType, 8>(a, first, last, states);
    if (a.rows > 4) return attend_rows<kDType, 6>(a, first, last, states);
  }
  if (a.rows == 4) return attend_rows<kDType, 4>(a, first, last, states);
  if (a.rows == 3) return attend_rows<kDType, 3>(a, first, last, states);
  if (a.rows == 2) return attend_rows<kDType, 2>(a, first, last, states);
  return attend_rows<kDType, 1>(a, first, last, states);
}

void attend(const AttentionArgs& a, int first, int last, AttentionState* states) {
  if (a.kv_dtype == DType::kF32) return attend_dtype<DType::kF32>(a, first, last, states);
  if (a.kv_dtype == DType::kF16) return attend_dtype<DType::kF16>(a, first, last, states);
  if (a.kv_dtype == DType::kI8) return attend_dtype<DType::kI8>(a, first, last, states);
  attend_dtype<DType::kBF16>(a, first, last, states);
}

void finish_attention(const AttentionState& state, const float* sink, int head_dim, float* out) {
  float sum = state.sum;
  float factor = 1;
  if (sink != nullptr) {
    const float top = state.max > *sink ? state.max : *sink;
    float factors[kLanes] = {state.max - top, *sink - top};
    store(factors, exp(load(factors)));
    factor = factors[0];
    sum = __builtin_fmaf(state.sum, factor, factors[1]);
  }
  const F scale = set1(sum == 0 ? 0 : factor / sum);
  int d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) store(out + d, mul(load(state.acc + d), scale));
  if (d < head_dim) store_n(out + d, mul(load(state.acc + d), scale), head_dim - d);
}
