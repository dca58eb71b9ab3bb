// Attention of many query rows of one sequence and KV head (prefill). Each split's keys and values
// are brought to float32 and side by side once; then all rows pass over them, kTileRows at a time,
// while they stay in cache. Each row goes through the very operations of attend(): the same bits.

// [count] elements of a row of the cache as floats; up to 15 more are read and written.
template <DType kDType>
PELTON_INLINE void widen(const uint8_t* from, int64_t element, int count, float* to) {
  for (int i = 0; i < count; i += kLanes) store(to + i, load_kv<kDType>(from, element + i));
}

// The tokens of `seen`, at their places within the split: keys [head_dim][kScoreStride], values
// [kSplitTokens][head_dim].
template <DType kDType>
void gather_split(const AttentionArgs& a, int split_begin, Range seen, float* keys, float* values) {
  for (int t = seen.begin; t < seen.end;) {
    const int offset = t % a.block_size;
    const int count = min_int(a.block_size - offset, seen.end - t);
    const uint8_t* block = block_of(a, t);
    float* to = keys + (t - split_begin);
    for (int d = 0; d < a.head_dim; ++d) {
      widen<kDType>(block, d * a.key_stride + offset, count, to + d * kScoreStride);
    }
    widen<kDType>(block + a.value_offset, static_cast<int64_t>(offset) * a.head_dim,
                  count * a.head_dim, values + static_cast<int64_t>(t - split_begin) * a.head_dim);
    t += count;
  }
}

// How many of `left` rows are taken together.
PELTON_INLINE int rows_at_once(int left) {
  if (left >= kTileRows) return kTileRows;
  if (kTileRows > 8 && left >= 8) return 8;
  if (left >= 6) return 6;
  return left > 4 ? 4 : left;
}
template <int kRows>
struct Rows {
  static constexpr int value = kRows;
};
// fn(Rows<n>) for n of rows_at_once().
template <typename Fn>
PELTON_INLINE void with_rows(int rows, Fn&& fn) {
  if (rows == kTileRows) return fn(Rows<kTileRows>{});
  if constexpr (kTileRows > 8) {
    if (rows == 8) return fn(Rows<8>{});
  }
  if constexpr (kTileRows > 6) {
    if (rows == 6) return fn(Rows<6>{});
  }
  if constexpr (kTileRows > 4) {
    if (rows == 4) return fn(Rows<4>{});
  }
  if (rows == 3) return fn(Rows<3>{});
  if (rows == 2) return fn(Rows<2>{});
  fn(Rows<1>{});
}

template <DType kDType>
void attend_tile_dtype(const AttentionArgs& a, int first, int last, AttentionState* states,
                       float* scratch) {
  // Parts of the scratch (attention_tile_floats).
  float* keys = scratch;
  float* values = keys + static_cast<int64_t>(a.head_dim) * kScoreStride;
  float* scales = values + static_cast<int64_t>(kSplitTokens) * a.head_dim + kLanes;
  float* q = scales + 2 * kScoreStride;
  SplitWork work;
  AttentionArgs rows = a;
  for (int r = 0; r < a.rows; r += rows.rows) {
    rows.rows = rows_at_once(a.rows - r);
    rows.q = a.q + r;
    with_rows(rows.rows, [&](auto n) {
      transpose_q<decltype(n)::value>(rows, q + static_cast<int64_t>(r) * a.head_dim);
    });
  }
  const int32_t only_block = 0;
  rows.kv_dtype = DType::kF32;
  rows.keys = reinterpret_cast<const uint8_t*>(keys);
  rows.value_offset = (values - keys) * static_cast<int64_t>(sizeof(float));
  rows.scale_offset =
      a.scale_offset != 0 ? (scales - keys) * static_cast<int64_t>(sizeof(float)) : 0;
  rows.block_table = &only_block;
  rows.block_size = kScoreStride;
  rows.key_stride = kScoreStride;
  int32_t begin[kTileRows], end[kTileRows];
  rows.begin = begin;
  rows.end = end;
  for (int split = first; split < last; ++split) {
    const int split_begin = split * kSplitTokens;
    Range seen = {split_begin + kSplitTokens, split_begin};
    for (int r = 0; r < a.rows; ++r) {
      seen.begin = min_int(seen.begin, max_int(a.begin[r], split_begin));
      seen.end = max_int(seen.end, min_int(a.end[r], split_begin + kSplitTokens));
    }
    if (seen.begin >= seen.end) continue;
    gather_split<kDType>(a, split_begin, seen, keys, values);
    if (a.scale_offset != 0) {
      gather_scales(a, work, split_begin, seen);
      __builtin_memcpy(scales, work.key_scales, sizeof(work.key_scales));
      __builtin_memcpy(scales + kScoreStride, work.value_scales, sizeof(work.value_scales));
    }
    for (int r = 0; r < a.rows; r += rows.rows) {
      rows.rows = rows_at_once(a.rows - r);
      for (int i = 0; i < rows.rows; ++i) {
        begin[i] = max_int(a.begin[r + i] - split_begin, 0);
        end[i] = a.end[r + i] - split_begin;
      }
      work.q = q + static_cast<int64_t>(r) * a.head_dim;
      with_rows(rows.rows, [&](auto n) {
        attend_split<DType::kF32, decltype(n)::value>(rows, work, 0, states + r);
      });
    }
  }
}

void attend_tile(const AttentionArgs& a, int first, int last, AttentionState* states,
                 float* scratch) {
  if (a.kv_dtype == DType::kF32) {
    return attend_tile_dtype<DType::kF32>(a, first, last, states, scratch);
  }
  if (a.kv_dtype == DType::kF16) {
    return attend_tile_dtype<DType::kF16>(a, first, last, states, scratch);
  }
  if (a.kv_dtype == DType::kI8) {
    return attend_tile_dtype<DType::kI8>(a, first, last, states, scratch);
  }
  attend_tile_dtype<DType::kBF16>(a, first, last, states, scratch);
}
