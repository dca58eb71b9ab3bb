// Attention of a few query rows over the paged context, split by split (AttentionArgs).

inline constexpr int kMaxHeadDim = 512;
inline constexpr int kScoreStride = kSplitTokens + kLanes;  // a last store may run over by 15

template <DType kDType>
PELTON_INLINE F load_kv(const uint8_t* base, int64_t element) {
  if constexpr (kDType == DType::kF32) return load(reinterpret_cast<const float*>(base) + element);
  if constexpr (kDType == DType::kF16) return load_half(base + 2 * element);
  if constexpr (kDType == DType::kBF16) return load_bfloat16(base + 2 * element);
}

// The position range that a row sees, within the split.
struct Range {
  int begin, end;
};

struct SplitWork {
  float q[kMaxHeadDim * kAttentionRows];  // [head_dim][kRows]
  float scores[kAttentionRows * kScoreStride];
  float acc[kAttentionRows * kMaxHeadDim];  // [rows][padded head_dim]
  Range range[kAttentionRows];
};

PELTON_INLINE int min_int(int a, int b) {
  return a < b ? a : b;
}
PELTON_INLINE int max_int(int a, int b) {
  return a > b ? a : b;
}
PELTON_INLINE int padded(int head_dim) {
  return (head_dim + kLanes - 1) / kLanes * kLanes;
}

PELTON_INLINE const uint8_t* block_of(const AttentionArgs& a, int position) {
  return a.keys + static_cast<int64_t>(a.block_table[position / a.block_size]) * a.block_bytes;
}

// Scores of kVectors * 16 consecutive tokens for kRows rows.
template <DType kDType, int kRows, int kVectors>
PELTON_INLINE void score_tile(const AttentionArgs& a, const uint8_t* keys, int offset,
                              const float* q, int rows, float* scores) {
  F acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) acc[r][v] = zero();
  }
  for (int d = 0; d < a.head_dim; ++d) {
    F k[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      k[v] = load_kv<kDType>(keys, d * a.key_stride + offset + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F value = set1(q[d * kRows + r]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma(value, k[v], acc[r][v]);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      F s = mul(acc[r][v], set1(a.scale));
      if (a.softcap != 0) s = mul(set1(a.softcap), tanh(div(s, set1(a.softcap))));
      store(scores + r * kScoreStride + v * kLanes, s);
    }
  }
}

template <DType kDType, int kRows>
PELTON_INLINE void score_split(const AttentionArgs& a, SplitWork& work, int split_begin,
                               Range seen) {
  int t = max_int(seen.begin / kLanes * kLanes, seen.begin / a.block_size * a.block_size);
  while (t < seen.end) {
    const int offset = t % a.block_size;
    const int left = a.block_size - offset;
    const uint8_t* keys = block_of(a, t);
    float* scores = work.scores + (t - split_begin);
    if (kAttentionRows == 8 && left >= 2 * kLanes && seen.end - t > kLanes &&
        t + 2 * kLanes <= split_begin + kSplitTokens) {
      score_tile<kDType, kRows, 2>(a, keys, offset, work.q, a.rows, scores);
      t += 2 * kLanes;
    } else {
      score_tile<kDType, kRows, 1>(a, keys, offset, work.q, a.rows, scores);
      t += min_int(left, kLanes);
    }
  }
}

// Scores to weights exp(s - max), zero outside the row's range.
PELTON_INLINE AttentionState soften(float* scores, Range range) {
  const F minus_infinity = set1(-__builtin_inff());
  const F lanes = [] {
    float iota[kLanes];
    for (int i = 0; i < kLanes; ++i) iota[i] = static_cast<float>(i);
    return load(iota);
  }();
  const auto keep = [&](F value, int at, F other) PELTON_LAMBDA {
    const F begin = set1(static_cast<float>(range.begin - at));
    const F end = set1(static_cast<float>(range.end - at));
    return select(less(lanes, end), select(less(lanes, begin), other, value), other);
  };
  F top = minus_infinity;
  const int first = range.begin / kLanes * kLanes;
  for (int at = first; at < range.end; at += kLanes) {
    top = max(top, keep(load(scores + at), at, minus_infinity));
  }
  AttentionState state;
  state.max = reduce_max(top);
  F sum = zero();
  for (int at = first; at < range.end; at += kLanes) {
    const F weight = keep(exp(sub(load(scores + at), set1(state.max))), at, zero());
    store(scores + at, weight);
    sum = add(sum, weight);
  }
  state.sum = reduce_add(sum);
  return state;
}

// acc[r][d] += sum over `count` tokens of weight[r][t] * value[t][d]; kVectors * 16 dimensions.
template <DType kDType, int kRows, int kVectors>
PELTON_INLINE void add_values_tile(const uint8_t* values, int head_dim, int dim, int count,
                                   const float* weights, float* acc, int acc_stride) {
  F sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(acc + r * acc_stride + dim + v * kLanes);
  }
  for (int t = 0; t < count; ++t) {
    F value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      value[v] = load_kv<kDType>(values, static_cast<int64_t>(t) * head_dim + dim + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F weight = set1(weights[r * kScoreStride + t]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(weight, value[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(acc + r * acc_stride + dim + v * kLanes, sum[r][v]);
  }
}

template <DType kDType, int kRows>
PELTON_INLINE void add_values(const AttentionArgs& a, SplitWork& work, int first_row,
                              int split_begin, Range range) {
  constexpr int kWide = kAttentionRows == 8 ? (kRows <= 4 ? 4 : 2) : (kRows == 1 ? 4 : 1);
  const int stride = padded(a.head_dim);
  float* acc = work.acc + first_row * stride;
  for (int t = range.begin; t < range.end;) {
    const int offset = t % a.block_size;
    const int count = min_int(a.block_size - offset, range.end - t);
    const int element_bytes = kDType == DType::kF32 ? 4 : 2;
    const uint8_t* values =
        block_of(a, t) + a.value_offset + static_cast<int64_t>(offset) * a.head_dim * element_bytes;
    const float* weights = work.scores + first_row * kScoreStride + (t - split_begin);
    int dim = 0;
    for (; dim + kWide * kLanes <= stride; dim += kWide * kLanes) {
      add_values_tile<kDType, kRows, kWide>(values, a.head_dim, dim, count, weights, acc, stride);
    }
    for (; dim < stride; dim += kLanes) {
      add_values_tile<kDType, kRows, 1>(values, a.head_dim, dim, count, weights, acc, stride);
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

template <DType kDType, int kRows>
void attend_split(const AttentionArgs& a, SplitWork& work, int split, AttentionState* states) {
  const int split_begin = split * kSplitTokens;
  Range seen = {split_begin + kSplitTokens, split_begin};    // by any row
  Range common = {split_begin, split_begin + kSplitTokens};  // by all
  for (int r = 0; r < a.rows; ++r) {
    const Range range = {max_int(a.begin[r], split_begin),
                         min_int(a.end[r], split_begin + kSplitTokens)};
    work.range[r] = range;
    common = {max_int(common.begin, range.begin), min_int(common.end, range.end)};
    if (range.begin < range.end) {
      seen = {min_int(seen.begin, range.begin), max_int(seen.end, range.end)};
    }
  }
  if (seen.begin >= seen.end) return;
  score_split<kDType, kRows>(a, work, split_begin, seen);
  const int stride = padded(a.head_dim);
  AttentionState fresh[kAttentionRows];
  for (int r = 0; r < a.rows; ++r) {
    const Range range = work.range[r];
    fresh[r].acc = work.acc + r * stride;
    for (int d = 0; d < stride; d += kLanes) store(fresh[r].acc + d, zero());
    if (range.begin >= range.end) continue;
    float* acc = fresh[r].acc;
    fresh[r] = soften(work.scores + r * kScoreStride,
                      {range.begin - split_begin, range.end - split_begin});
    fresh[r].acc = acc;
  }
  if (kRows == a.rows && common.begin < common.end) {
    for (int r = 0; r < a.rows; ++r) {
      add_values<kDType, 1>(a, work, r, split_begin, {work.range[r].begin, common.begin});
    }
    add_values<kDType, kRows>(a, work, 0, split_begin, common);
    for (int r = 0; r < a.rows; ++r) {
      add_values<kDType, 1>(a, work, r, split_begin, {common.end, work.range[r].end});
    }
  } else {
    for (int r = 0; r < a.rows; ++r) {
      add_values<kDType, 1>(a, work, r, split_begin, work.range[r]);
    }
  }
  for (int r = 0; r < a.rows; ++r) merge_attention(states[r], fresh[r], a.head_dim);
}

template <DType kDType, int kRows>
void attend_rows(const AttentionArgs& a, int first, int last, AttentionState* states) {
  SplitWork work;
  for (int r = 0; r < kRows; ++r) {  // rows beyond the last repeat it
    const float* q = a.q[min_int(r, a.rows - 1)];
    for (int d = 0; d < a.head_dim; ++d) work.q[d * kRows + r] = q[d];
  }
  for (int split = first; split < last; ++split) {
    attend_split<kDType, kRows>(a, work, split, states);
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
