// The running softmax: one chain of operations for a row, the same in every kernel that computes a
// part of it. Operations are spelled out (no contraction by the compiler), so that bits agree.
// Device code of attention_*.cu alone.
#pragma once

#include "cuda/kernels/attention_tile.h"

namespace pelton::cuda {

inline constexpr float kLog2E = 1.4426950408889634F;
inline constexpr float kNothing = -INFINITY;  // the maximum of no scores

// Maxima are kept as rounded(score * factor), in powers of two: a tile that a row does not see then
// leaves its sums and outputs as they are, to the bit, whether it is computed or skipped.
// A weight is exp2(x - base), base the maximum; of no scores at all the base is 0, so that every
// weight is exp2(-inf) = 0.
__device__ __forceinline__ float softmax_base(float maximum) {
  return maximum == kNothing ? 0.0F : maximum;
}

__device__ __forceinline__ float soft_cap(float score, float cap, float cap_factor) {
  // tanh(y) = 1 - 2 / (1 + exp(2 y)); the hardware's own tanh is too coarse for logits.
  const float e = exp2_approx(__fmul_rn(score, cap_factor));
  return __fmul_rn(cap, __fmaf_rn(-2.0F, reciprocal_approx(__fadd_rn(1.0F, e)), 1.0F));
}

// How two parts of a row's context come together: total = total * keep + part * take.
struct MergeWeights {
  float maximum;
  float keep;
  float take;
};
__device__ __forceinline__ MergeWeights merge_weights(float total, float part) {
  MergeWeights w;
  w.maximum = fmaxf(total, part);
  const float base = softmax_base(w.maximum);
  w.keep = exp2_approx(__fsub_rn(total, base));
  w.take = exp2_approx(__fsub_rn(part, base));
  return w;
}
__device__ __forceinline__ float merged(float total, float part, const MergeWeights& w) {
  return __fmaf_rn(total, w.keep, __fmul_rn(part, w.take));
}

// What the sum of values is multiplied by at the end; the sink takes part in the sum alone.
__device__ __forceinline__ float final_factor(float maximum, float sum, const float* sinks,
                                              int head) {
  float weight = 1.0F;
  if (sinks != nullptr) {
    const float sink = __fmul_rn(__ldg(sinks + head), kLog2E);
    const float top = fmaxf(maximum, sink);
    weight = exp2_approx(__fsub_rn(maximum, top));
    sum = __fmaf_rn(sum, weight, exp2_approx(__fsub_rn(sink, top)));
  }
  return sum == 0.0F ? 0.0F : __fdiv_rn(weight, sum);
}

// Of the four threads that hold a row of a fragment.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x = __fadd_rn(x, __shfl_xor_sync(kFullMask, x, 1));
  return __fadd_rn(x, __shfl_xor_sync(kFullMask, x, 2));
}

// One split of a thread's two rows. Sums are kept for each 16 keys of a tile by themselves, so that
// warps which share a row's keys need not meet before the split ends.
template <class Tile>
struct SplitState {
  float maximum[2];
  float sums[2][Tile::kChains];
  float out[Tile::kOutTiles][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      maximum[half] = kNothing;
#pragma unroll
      for (int chain = 0; chain < Tile::kChains; ++chain) sums[half][chain] = 0.0F;
    }
#pragma unroll
    for (int tile = 0; tile < Tile::kOutTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[tile][i] = 0.0F;
    }
  }
};

// The merged splits of a thread's two rows.
template <class Tile>
struct TotalState {
  float maximum[2];
  float sum[2];
  float out[Tile::kOutTiles][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      maximum[half] = kNothing;
      sum[half] = 0.0F;
    }
#pragma unroll
    for (int tile = 0; tile < Tile::kOutTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[tile][i] = 0.0F;
    }
  }

  __device__ __forceinline__ void add(const SplitState<Tile>& part, const float (&part_sum)[2]) {
    MergeWeights w[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      w[half] = merge_weights(maximum[half], part.maximum[half]);
      maximum[half] = w[half].maximum;
      sum[half] = merged(sum[half], part_sum[half], w[half]);
    }
#pragma unroll
    for (int tile = 0; tile < Tile::kOutTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[tile][i] = merged(out[tile][i], part.out[tile][i], w[i / 2]);
    }
  }
};

// The sums of a row over all chains, in order; meets the warps that share rows.
template <class Tile>
__device__ __forceinline__ void finish_sums(const SplitState<Tile>& split, float (&sum)[2],
                                            const AttentionShared<Tile>& shared,
                                            const AttentionLane<Tile>& who) {
  float chains[2][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int chain = 0; chain < Tile::kChains; ++chain) {
      chains[half][chain] = quad_sum(split.sums[half][chain]);
      if constexpr (Tile::kColumns > 1) {
        if (who.quad() == 0) {
          const int row = who.row() + 8 * half;
          shared.sums()[(who.column * Tile::kChains + chain) * Tile::kRows + row] =
              chains[half][chain];
        }
      }
    }
  }
  if constexpr (Tile::kColumns > 1) {
    row_group_barrier<Tile>(who.row_group);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int chain = 0; chain < 4; ++chain) {
        chains[half][chain] = shared.sums()[chain * Tile::kRows + who.row() + 8 * half];
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sum[half] = __fadd_rn(__fadd_rn(__fadd_rn(chains[half][0], chains[half][1]), chains[half][2]),
                          chains[half][3]);
  }
}

}  // namespace pelton::cuda
