// The attention kernel: a block takes one item (a tile of rows, some splits) and one KV head.
// Device code of attention_*.cu alone.
#pragma once

#include "cuda/kernels/attention_kv.h"
#include "cuda/kernels/attention_loader.h"
#include "cuda/kernels/attention_softmax.h"
#include "cuda/kernels/attention_store.h"

namespace pelton::cuda {

// A row sees the positions [end - args.window, end); beyond the item none.
template <class Tile>
__device__ __forceinline__ int visible_end(const AttentionArgs& args, const AttentionItem& item,
                                           int row) {
  if (row >= item.rows) return 0;
  if constexpr (Tile::kSource == KvSource::kRows) {
    return item.table;  // the sequence's length
  } else {
    return max(0, item.position + (item.first_row + row) / args.group + 1);
  }
}

// q of the block's rows into shared memory, 16 bytes a thread; rows beyond the item and elements
// beyond head_dim as zeros. 8-bit: in the order in which load_keys gives K.
template <class Tile>
__device__ __forceinline__ void load_query(const AttentionArgs& args, const AttentionItem& item,
                                           int kv_head, const AttentionShared<Tile>& shared) {
  constexpr int kChunks = Tile::kDim / 8;
  unsigned char* rows = shared.memory + AttentionShared<Tile>::kQuery;
  for (int i = static_cast<int>(threadIdx.x); i < Tile::kRows * kChunks; i += Tile::kThreads) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    uint4 x = {0, 0, 0, 0};
    if (row < item.rows && chunk * 8 < args.head_dim) {
      const int place = item.first_row + row;
      const int head = kv_head * args.group + place % args.group;
      x = load16(static_cast<const typename Tile::Element*>(args.q) +
                 (item.token + place / args.group) * args.q_stride + int64_t{head} * args.head_dim +
                 chunk * 8);
    }
    if constexpr (Tile::k8Bit) {
      uint2 pieces[2];  // of the even and of the odd chunk of these 16 elements
      to_code_order<typename Tile::Element>(x, pieces[0], pieces[1]);
      const int first = (chunk >> 3) & 1;  // every other 128 bytes the odd one, to other banks
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const int odd = first ^ n;
        unsigned char* target = rows + swizzled<Tile::kQueryRowBytes>(row, (chunk & ~1) + odd);
        store8(target + 8 * (chunk & 1), odd != 0 ? pieces[1] : pieces[0]);
      }
    } else {
      store16(rows + swizzled<Tile::kQueryRowBytes>(row, chunk), x);
    }
  }
}

// scores[j]: this warp's 16 rows by tokens 8 j .. of its share of the tile.
template <class Tile>
__device__ __forceinline__ void compute_scores(float (&scores)[Tile::kScoreTiles][4],
                                               const AttentionShared<Tile>& shared, int keys,
                                               const AttentionLane<Tile>& who) {
#pragma unroll
  for (int j = 0; j < Tile::kScoreTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[j][i] = 0.0F;
  }
  const int matrix = who.lane / 8;
  const int query = AttentionShared<Tile>::kQuery +
                    swizzled<Tile::kQueryRowBytes>(
                        who.row_group * 16 + (matrix & 1) * 8 + who.lane % 8, matrix / 2);
#pragma unroll 2
  for (int step = 0; step < Tile::kDim / 16; step += 2) {
    uint32_t a[2][4];
    ldmatrix_x4(a[0], shared.memory + chunks_on(query, 2 * step));
    ldmatrix_x4(a[1], shared.memory + chunks_on(query, 2 * step + 2));
#pragma unroll
    for (int pair = 0; pair < Tile::kScoreTiles / 2; ++pair) {
      uint32_t b[2][2][2];
      load_keys<Tile>(b, shared.memory, keys, pair, step);
#pragma unroll
      for (int next = 0; next < 2; ++next) {
        mma_m16n8k16<typename Tile::Matrix>(scores[2 * pair], a[next], b[next][0]);
        mma_m16n8k16<typename Tile::Matrix>(scores[2 * pair + 1], a[next], b[next][1]);
      }
    }
  }
}

// Scales of K, softcap and mask; returns the tile's maxima of the thread's two rows.
template <class Tile>
__device__ __forceinline__ void finish_scores(float (&scores)[Tile::kScoreTiles][4],
                                              float (&maxima)[2], const AttentionArgs& args,
                                              const int (&visible)[2], bool all_visible, int first,
                                              const unsigned char* keys,
                                              const AttentionLane<Tile>& who) {
  maxima[0] = maxima[1] = kNothing;
#pragma unroll
  for (int j = 0; j < Tile::kScoreTiles; ++j) {
    const int token = (who.column * Tile::kScoreTiles + j) * 8 + 2 * who.quad();
    if constexpr (Tile::k8Bit) {
      const float2 scale = load_scales<Tile>(keys, token, false);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[j][i] = __fmul_rn(scores[j][i], i % 2 == 0 ? scale.x : scale.y);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (args.cap > 0) scores[j][i] = soft_cap(scores[j][i], args.cap, args.cap_factor);
      if (!all_visible) {
        const int position = first + token + i % 2;
        const int end = visible[i / 2];
        if (position >= end || position < end - args.window) scores[j][i] = kNothing;
      }
      maxima[i / 2] = fmaxf(maxima[i / 2], scores[j][i]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    maxima[half] = __fmul_rn(quad_max(maxima[half]), args.factor);
  }
}

// Over all warps that share rows; meets them.
template <class Tile>
__device__ __forceinline__ void share_maxima(float (&maxima)[2],
                                             const AttentionShared<Tile>& shared,
                                             const AttentionLane<Tile>& who) {
  if constexpr (Tile::kColumns > 1) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (who.quad() == 0) {
        shared.maxima()[who.column * Tile::kRows + who.row() + 8 * half] = maxima[half];
      }
    }
    row_group_barrier<Tile>(who.row_group);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int column = 0; column < Tile::kColumns; ++column) {
        maxima[half] =
            fmaxf(maxima[half], shared.maxima()[column * Tile::kRows + who.row() + 8 * half]);
      }
    }
  }
}

// Scores become weights, the sums and outputs so far are brought to the new maximum.
template <class Tile>
__device__ __forceinline__ void weigh(float (&scores)[Tile::kScoreTiles][4],
                                      const float (&maxima)[2], SplitState<Tile>& split,
                                      float factor) {
  float base[2], keep[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float maximum = fmaxf(split.maximum[half], maxima[half]);
    base[half] = softmax_base(maximum);
    keep[half] = exp2_approx(__fsub_rn(split.maximum[half], base[half]));
    split.maximum[half] = maximum;
  }
#pragma unroll
  for (int j = 0; j < Tile::kScoreTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[j][i] = exp2_approx(__fmaf_rn(scores[j][i], factor, -base[i / 2]));
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int chain = 0; chain < Tile::kChains; ++chain) {
      const float(&a)[4] = scores[2 * chain];
      const float(&b)[4] = scores[2 * chain + 1];
      const float sum = __fadd_rn(__fadd_rn(a[2 * half], a[2 * half + 1]),
                                  __fadd_rn(b[2 * half], b[2 * half + 1]));
      split.sums[half][chain] = __fmaf_rn(split.sums[half][chain], keep[half], sum);
    }
  }
#pragma unroll
  for (int tile = 0; tile < Tile::kOutTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) split.out[tile][i] = __fmul_rn(split.out[tile][i], keep[i / 2]);
  }
}

// Weights as pairs of the matrix type, with V's scales; a[j][half]. kColumns > 1: to shared memory.
template <class Tile>
__device__ __forceinline__ void round_weights(uint32_t (&pairs)[Tile::kScoreTiles][2],
                                              const float (&weights)[Tile::kScoreTiles][4],
                                              const unsigned char* keys,
                                              const AttentionLane<Tile>& who) {
#pragma unroll
  for (int j = 0; j < Tile::kScoreTiles; ++j) {
    float2 scale = {1.0F, 1.0F};
    if constexpr (Tile::k8Bit) {
      const int token = (who.column * Tile::kScoreTiles + j) * 8 + 2 * who.quad();
      scale = load_scales<Tile>(keys, token, true);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float low = weights[j][2 * half], high = weights[j][2 * half + 1];
      if constexpr (Tile::k8Bit) {
        low = __fmul_rn(low, scale.x);
        high = __fmul_rn(high, scale.y);
      }
      pairs[j][half] = pack2<typename Tile::Matrix>(low, high);
    }
  }
}

template <class Tile>
__device__ __forceinline__ void store_weights(const uint32_t (&pairs)[Tile::kScoreTiles][2],
                                              const AttentionShared<Tile>& shared,
                                              const AttentionLane<Tile>& who) {
#pragma unroll
  for (int j = 0; j < Tile::kScoreTiles; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = who.row() + 8 * half;
      const int chunk = who.column * Tile::kScoreTiles + j;
      *reinterpret_cast<uint32_t*>(shared.memory + AttentionShared<Tile>::kWeights +
                                   swizzled<Tile::kWeightRowBytes>(row, chunk) + 4 * who.quad()) =
          pairs[j][half];
    }
  }
}

// The left operand: weights of tokens 16 step .. for this warp's rows.
template <class Tile>
__device__ __forceinline__ void load_weights(uint32_t (&a)[4],
                                             const uint32_t (&pairs)[Tile::kScoreTiles][2],
                                             const AttentionShared<Tile>& shared, int step,
                                             const AttentionLane<Tile>& who) {
  if constexpr (Tile::kColumns == 1) {
    a[0] = pairs[2 * step][0];
    a[1] = pairs[2 * step][1];
    a[2] = pairs[2 * step + 1][0];
    a[3] = pairs[2 * step + 1][1];
  } else {
    const int matrix = who.lane / 8;
    const int row = who.row_group * 16 + (matrix & 1) * 8 + who.lane % 8;
    const int first =
        AttentionShared<Tile>::kWeights + swizzled<Tile::kWeightRowBytes>(row, matrix / 2);
    ldmatrix_x4(a, shared.memory + chunks_on(first, 2 * step));
  }
}

template <class Tile>
__device__ __forceinline__ void add_values(SplitState<Tile>& split,
                                           const uint32_t (&pairs)[Tile::kScoreTiles][2],
                                           const AttentionShared<Tile>& shared, int values,
                                           const AttentionLane<Tile>& who) {
#pragma unroll
  for (int step = 0; step < kKvTileTokens / 16; step += 2) {
    uint32_t a[2][4];
    load_weights<Tile>(a[0], pairs, shared, step, who);
    load_weights<Tile>(a[1], pairs, shared, step + 1, who);
#pragma unroll
    for (int pair = 0; pair < Tile::kOutTiles / 2; ++pair) {
      uint32_t b[2][2][2];
      load_values<Tile>(b, shared.memory, values, step, pair);
#pragma unroll
      for (int next = 0; next < 2; ++next) {
        mma_m16n8k16<typename Tile::Matrix>(split.out[2 * pair], a[next], b[next][0]);
        mma_m16n8k16<typename Tile::Matrix>(split.out[2 * pair + 1], a[next], b[next][1]);
      }
    }
  }
}

// What the rows of the block, and those of this warp, see.
template <class Tile>
struct AttentionReach {
  KvRange block;   // what is loaded
  int first_end;   // visible_end of the warp's first row
  int last_end;    // of its last; 0: the warp has no rows
  int row_end[2];  // of the thread's own

  __device__ __forceinline__ AttentionReach(const AttentionArgs& args, const AttentionItem& item,
                                            const AttentionLane<Tile>& who) {
    const int split_tokens = item.split_tiles * kKvTileTokens;
    block.begin = max(visible_end<Tile>(args, item, 0) - args.window, 0);
    block.begin = max(block.begin, item.first_split * split_tokens);
    block.end = min(visible_end<Tile>(args, item, item.rows - 1), item.end_split * split_tokens);
    block.first_tile = block.begin / kKvTileTokens;
    block.end_tile = (block.end + kKvTileTokens - 1) / kKvTileTokens;
    const int first = who.row_group * 16;
    first_end = visible_end<Tile>(args, item, first);
    last_end =
        first < item.rows ? visible_end<Tile>(args, item, min(first + 15, item.rows - 1)) : 0;
    row_end[0] = visible_end<Tile>(args, item, who.row());
    row_end[1] = visible_end<Tile>(args, item, who.row() + 8);
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    attention_kernel(AttentionArgs args) {
  const AttentionItem item = load_item(args.items + blockIdx.x);
  if (item.rows == 0) return;
  PELTON_DYNAMIC_SHARED(unsigned char, memory);
  const AttentionShared<Tile> shared{memory};
  const AttentionLane<Tile> who;
  const KvLaneOffsets<Tile> lane_offsets(who);
  const AttentionReach<Tile> reach(args, item, who);
  const int kv_head = static_cast<int>(blockIdx.y);

  KvLoader<Tile> loader(args, item, reach.block, kv_head, who.lane);
  for (int i = 0; i < Tile::kHalves - 1; ++i) loader.start_next(args, item, shared);
  load_query<Tile>(args, item, kv_head, shared);
  if (reach.block.first_tile >= reach.block.end_tile) __syncthreads();  // no other barrier comes

  SplitState<Tile> split;
  TotalState<Tile> total;
  split.clear();
  total.clear();
  int half = 0;
#pragma unroll 1
  for (int tile = reach.block.first_tile; tile < reach.block.end_tile; ++tile) {
    const int first = tile * kKvTileTokens;
    const bool seen =
        first < reach.last_end && first + kKvTileTokens > reach.first_end - args.window;
    uint32_t pairs[Tile::kScoreTiles][2] = {};

    cp_async_wait<Tile::kHalves - 2>();
    __syncthreads();
    loader.start_next(args, item, shared);
    if (seen) {
      const bool all_visible =
          first >= reach.last_end - args.window && first + kKvTileTokens <= reach.first_end;
      const int start = shared.half(half);
      float scores[Tile::kScoreTiles][4];
      float maxima[2];
      compute_scores<Tile>(scores, shared, start + lane_offsets.keys, who);
      finish_scores<Tile>(scores, maxima, args, reach.row_end, all_visible, first, memory + start,
                          who);
      share_maxima<Tile>(maxima, shared, who);
      weigh<Tile>(scores, maxima, split, args.factor);
      round_weights<Tile>(pairs, scores, memory + start, who);
      if constexpr (Tile::kColumns > 1) store_weights<Tile>(pairs, shared, who);
    }
    half = (half + 1) % Tile::kHalves;
    cp_async_wait<Tile::kHalves - 2>();
    __syncthreads();
    loader.start_next(args, item, shared);
    if (seen) {
      add_values<Tile>(split, pairs, shared, shared.half(half) + lane_offsets.values, who);
    }
    half = (half + 1) % Tile::kHalves;

    const bool last_of_split = (tile + 1) % item.split_tiles == 0;
    if (!last_of_split && tile + 1 < reach.block.end_tile) continue;
    float sum[2];
    finish_sums<Tile>(split, sum, shared, who);
    if (item.partial >= 0) {
      store_partial<Tile>(args, tile / item.split_tiles, split, sum, who);
    } else {
      total.add(split, sum);
    }
    split.clear();
  }
  if (item.partial < 0) store_output<Tile>(args, total, shared, who);
}

}  // namespace pelton::cuda
