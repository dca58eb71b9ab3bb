// How attention reads the paged cache: rows of any type, the blocks of a sequence, and what is
// asked for before it is read.

template <DType kDType>
PELTON_INLINE F load_kv(const uint8_t* base, int64_t element) {
  if constexpr (kDType == DType::kF32) return load(reinterpret_cast<const float*>(base) + element);
  if constexpr (kDType == DType::kF16) return load_half(base + 2 * element);
  if constexpr (kDType == DType::kBF16) return load_bfloat16(base + 2 * element);
  if constexpr (kDType == DType::kI8) return load_i8(base + element);
}
template <DType kDType>
inline constexpr int64_t kKvBytes = kDType == DType::kF32  ? 4
                                    : kDType == DType::kI8 ? 1
                                                           : 2;

// The position range that a row sees, within the split.
struct Range {
  int begin, end;
};

PELTON_INLINE int min_int(int a, int b) {
  return a < b ? a : b;
}
PELTON_INLINE int max_int(int a, int b) {
  return a > b ? a : b;
}
PELTON_INLINE const uint8_t* block_of(const AttentionArgs& a, int position) {
  return a.keys + static_cast<int64_t>(a.block_table[position / a.block_size]) * a.block_bytes;
}

// The order in which a split is read: the keys of its blocks, their values, then the next split's
// or item's keys. Each line is asked for kNearBytes before it is read, and with AVX-512 twice that
// far ahead too: a processor holds so many requests (on Zen 5 about a hundred) and drops the rest,
// so a line is asked for as late as the latency allows, and once more for what was dropped.
inline constexpr int64_t kNearBytes = 8192;
struct ReadingOrder {
  int begin, split_begin;  // positions
  int blocks;
  int near;  // so many blocks' keys or values ahead
  int end;   // position: what lies before this is wanted after the split
};
template <DType kDType>
PELTON_INLINE ReadingOrder reading_order(const AttentionArgs& a, int split_begin, Range seen,
                                         int end) {
  const int begin = seen.begin / a.block_size * a.block_size;
  const int64_t bytes = static_cast<int64_t>(a.block_size) * a.head_dim * kKvBytes<kDType>;
  return {begin, split_begin, (seen.end - begin + a.block_size - 1) / a.block_size,
          max_int(1, static_cast<int>(kNearBytes / bytes)), end};
}

// Bytes from `here` to what stands at `index` of the order; 0: nothing is wanted there.
PELTON_INLINE int64_t ahead_of(const AttentionArgs& a, const ReadingOrder& order, int index,
                               const uint8_t* here) {
  if (index < order.blocks) return block_of(a, order.begin + index * a.block_size) - here;
  index -= order.blocks;
  if (index < order.blocks) {
    return block_of(a, order.begin + index * a.block_size) + a.value_offset - here;
  }
  const int offset = (index - order.blocks) * a.block_size;
  if (offset >= kSplitTokens) return 0;
  const int next = order.split_begin + kSplitTokens + offset;
  if (next < order.end) return block_of(a, next) - here;
  // What an earlier split of a longer item would ask for lies before the next item's table.
  const int beyond = order.split_begin + offset + a.next_shift;
  if (beyond < 0 || beyond >= a.next_end) return 0;
  return a.next_keys + a.next_block_table[beyond / a.block_size] * a.block_bytes - here;
}

struct Ahead {
  int64_t near, far;  // bytes
};
PELTON_INLINE Ahead aheads_of(const AttentionArgs& a, const ReadingOrder& order, int index,
                              const uint8_t* here) {
  if (a.block_size > kSplitTokens) return {0, 0};
  return {ahead_of(a, order, index + order.near, here),
          ahead_of(a, order, index + 2 * order.near, here)};
}

// Vector v of a row: once a line.
template <DType kDType>
PELTON_INLINE void prefetch_ahead(const uint8_t* base, int64_t element, int v, Ahead ahead) {
  if (v * kLanes * kKvBytes<kDType> % 64 != 0) return;
  const uint8_t* line = base + element * kKvBytes<kDType>;
  __builtin_prefetch(line + ahead.near, 0, 3);
  if constexpr (kAttentionRows == 8) __builtin_prefetch(line + ahead.far, 0, 3);
}
