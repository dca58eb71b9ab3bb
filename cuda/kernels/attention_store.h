// Results of the attention kernels: partial sums of a split, and outputs. The order of elements in
// q that goes with 8-bit K. Device code of attention_*.cu alone.
#pragma once

#include "cuda/kernels/attention_softmax.h"

namespace pelton::cuda {

// Pairs of bf16 from pairs of the element type.
template <class Element>
__device__ __forceinline__ uint32_t to_bf16_pair(uint32_t pair) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
    return pair;
  } else {
    float low, high;
    unpack2<Element>(pair, low, high);
    return pack2<__nv_bfloat16>(low, high);
  }
}

// Of 16 elements, 4 t + i goes to 2 t + i / 2 + 8 (i % 2): of half of them, what goes to the first
// eight places and to the other eight.
template <class Element>
__device__ __forceinline__ void to_code_order(const uint4& x, uint2& even, uint2& odd) {
  const uint32_t a = to_bf16_pair<Element>(x.x), b = to_bf16_pair<Element>(x.y);
  const uint32_t c = to_bf16_pair<Element>(x.z), d = to_bf16_pair<Element>(x.w);
  even = {__byte_perm(a, b, 0x5410), __byte_perm(c, d, 0x5410)};
  odd = {__byte_perm(a, b, 0x7632), __byte_perm(c, d, 0x7632)};
}

// What a thread holds of row `half` in n tiles 2 pair and 2 pair + 1, as values of consecutive
// elements: 16-bit V gives two runs of two (from 16 pair + 2 quad, and 8 further), 8-bit V one of
// four (from 16 pair + 4 quad).
template <class Tile>
__device__ __forceinline__ void runs_of_pair(float (&x)[4], const float (&out)[Tile::kOutTiles][4],
                                             int pair, int half) {
  const float(&a)[4] = out[2 * pair];
  const float(&b)[4] = out[2 * pair + 1];
  if constexpr (Tile::k8Bit) {
    x[0] = a[2 * half], x[1] = b[2 * half], x[2] = a[2 * half + 1], x[3] = b[2 * half + 1];
  } else {
    x[0] = a[2 * half], x[1] = a[2 * half + 1], x[2] = b[2 * half], x[3] = b[2 * half + 1];
  }
}

// The item is read again here and below, so that it takes no registers while tiles are computed.
template <class Tile>
__device__ __forceinline__ void store_partial(const AttentionArgs& args, int split_index,
                                              const SplitState<Tile>& split, const float (&sum)[2],
                                              const AttentionLane<Tile>& who) {
  const AttentionItem item = load_item(args.items + blockIdx.x);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = who.row() + 8 * half;
    if (row >= item.rows) continue;
    const int64_t place =
        (int64_t{item.partial} + (split_index - item.first_split) * item.rows + row) *
            args.num_kv_heads +
        blockIdx.y;
    if (who.column == 0 && who.quad() == 0) {
      store8(args.partial_state + place,
             {__float_as_uint(split.maximum[half]), __float_as_uint(sum[half])});
    }
    constexpr int kStep = Tile::k8Bit ? 4 : 2;
    float* target =
        args.partial_out + place * Tile::kDim + who.column * Tile::kOutDim + kStep * who.quad();
#pragma unroll
    for (int pair = 0; pair < Tile::kOutTiles / 2; ++pair) {
      float x[4];
      runs_of_pair<Tile>(x, split.out, pair, half);
      if constexpr (Tile::k8Bit) {
        store16(target + 16 * pair, {__float_as_uint(x[0]), __float_as_uint(x[1]),
                                     __float_as_uint(x[2]), __float_as_uint(x[3])});
      } else {
        store8(target + 16 * pair, {__float_as_uint(x[0]), __float_as_uint(x[1])});
        store8(target + 16 * pair + 8, {__float_as_uint(x[2]), __float_as_uint(x[3])});
      }
    }
  }
}

// By way of shared memory (where q was), so that rows leave in runs of 16 bytes a thread.
template <class Tile>
__device__ __forceinline__ void store_output(const AttentionArgs& args,
                                             const TotalState<Tile>& total,
                                             const AttentionShared<Tile>& shared,
                                             const AttentionLane<Tile>& who) {
  using Element = typename Tile::Element;
  const AttentionItem item = load_item(args.items + blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  row_group_barrier<Tile>(who.row_group);  // q has been read
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = who.row() + 8 * half;
    const int head = kv_head * args.group + (item.first_row + row) % args.group;
    const float factor = final_factor(total.maximum[half], total.sum[half], args.sinks, head);
#pragma unroll
    for (int pair = 0; pair < Tile::kOutTiles / 2; ++pair) {
      float x[4];
      runs_of_pair<Tile>(x, total.out, pair, half);
      const uint32_t low = pack2<Element>(__fmul_rn(x[0], factor), __fmul_rn(x[1], factor));
      const uint32_t high = pack2<Element>(__fmul_rn(x[2], factor), __fmul_rn(x[3], factor));
      const int chunk = who.column * (Tile::kOutDim / 8) + 2 * pair;
      unsigned char* rows = shared.memory + AttentionShared<Tile>::kQuery;
      if constexpr (Tile::k8Bit) {
        // Odd rows the second word first: it lies in other banks than their neighbours' first.
        unsigned char* target = rows + swizzled<Tile::kQueryRowBytes>(row, chunk + who.quad() / 2) +
                                8 * (who.quad() % 2);
        const bool swap = row % 2 != 0;
        *reinterpret_cast<uint32_t*>(target + (swap ? 4 : 0)) = swap ? high : low;
        *reinterpret_cast<uint32_t*>(target + (swap ? 0 : 4)) = swap ? low : high;
      } else {
        unsigned char* target = rows + 4 * who.quad();
        *reinterpret_cast<uint32_t*>(target + swizzled<Tile::kQueryRowBytes>(row, chunk)) = low;
        *reinterpret_cast<uint32_t*>(target + swizzled<Tile::kQueryRowBytes>(row, chunk + 1)) =
            high;
      }
    }
  }
  row_group_barrier<Tile>(who.row_group);
  constexpr int kChunks = Tile::kDim / 8;
  const int chunks = args.head_dim / 8;
  for (int i = who.column * 32 + who.lane; i < 16 * kChunks; i += Tile::kColumns * 32) {
    const int row = who.row_group * 16 + i / kChunks;
    const int chunk = i % kChunks;
    if (row >= item.rows || chunk >= chunks) continue;
    const int place = item.first_row + row;
    const int head = kv_head * args.group + place % args.group;
    auto* target = static_cast<Element*>(args.out) +
                   (item.token + place / args.group) * args.out_stride +
                   int64_t{head} * args.head_dim + chunk * 8;
    store16(target, load16(shared.memory + AttentionShared<Tile>::kQuery +
                           swizzled<Tile::kQueryRowBytes>(row, chunk)));
  }
}

}  // namespace pelton::cuda
