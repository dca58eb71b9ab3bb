// K and V on their way from shared memory to the matrix instructions; 8-bit codes are widened.
// Device code of attention_*.cu alone.
#pragma once

#include "cuda/kernels/attention_tile.h"

namespace pelton::cuda {

// Scales of K (or V) of a token of the tile and the next, from K's half; 8-bit codes alone.
template <class Tile>
__device__ __forceinline__ float2 load_scales(const unsigned char* keys, int token, bool of_v) {
  const int index = (of_v ? kKvTileTokens : 0) + token;
  return *reinterpret_cast<const float2*>(keys + kKvTileTokens * Tile::kKvRowBytes + index * 4);
}

// Bytes 0 and 2 of `codes` as a pair of bf16, without their scale. Exact.
template <class Code>
__device__ __forceinline__ uint32_t widen_even(uint32_t codes) {
  const uint32_t low_bits = codes & 0x007f007fu;
  const uint32_t signs = codes & 0x00800080u;
  if constexpr (std::is_same_v<Code, __nv_fp8_e4m3>) {
    // The same bits as bf16 stand for 2^-120 of the value: biases 7 and 127.
    return bf16x2_fma((signs << 8) | (low_bits << 4), 0x7b807b80u, 0x80008000u);
  } else {
    // 128 + low bits, less 128 or (with the sign bit) 256.
    return bf16x2_fma(0x43004300u | signs, 0xbf80bf80u, 0x43004300u | low_bits);
  }
}
template <class Code>
__device__ __forceinline__ uint32_t widen_odd(uint32_t codes) {
  return widen_even<Code>(codes >> 8);
}

// Where this lane's row of K lies for step 0 and the first 16 tokens of the warp's share, and its
// row of V for the first tokens and elements of the warp's share; offsets within a half.
template <class Tile>
struct KvLaneOffsets {
  int keys;
  int values;

  __device__ __forceinline__ explicit KvLaneOffsets(const AttentionLane<Tile>& who) {
    const int matrix = who.lane / 8;
    const int row = who.lane % 8;
    const int first_token = who.column * Tile::kScoreTiles * 8;
    if constexpr (Tile::k8Bit) {
      keys = swizzled<Tile::kKvRowBytes>(first_token + (matrix & 1) * 8 + row, matrix / 2);
      values = swizzled<Tile::kKvRowBytes>(matrix * 8 + row, who.column * Tile::kOutDim / 16);
    } else {
      keys = swizzled<Tile::kKvRowBytes>(first_token + (matrix / 2) * 8 + row, matrix & 1);
      values = swizzled<Tile::kKvRowBytes>((matrix & 1) * 8 + row,
                                           who.column * Tile::kOutDim / 8 + matrix / 2);
    }
  }
};

// K as the right operand of q k^T: b[next][n tile] for k steps `step` and the next (16 elements
// each), tokens 16 pair .. of the warp's share. 8-bit: element 4 t + i of a step stands at k =
// 2 t + i / 2 + 8 (i % 2); q is stored in that order. `keys` is at KvLaneOffsets::keys of the half.
template <class Tile>
__device__ __forceinline__ void load_keys(uint32_t (&b)[2][2][2], const unsigned char* memory,
                                          int keys, int pair, int step) {
  const unsigned char* rows = memory + pair * 16 * Tile::kKvRowBytes;
  if constexpr (Tile::k8Bit) {
    uint32_t codes[4];
    ldmatrix_x4(codes, rows + chunks_on(keys, step));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      b[i / 2][i % 2][0] = widen_even<typename Tile::Code>(codes[i]);
      b[i / 2][i % 2][1] = widen_odd<typename Tile::Code>(codes[i]);
    }
  } else {
#pragma unroll
    for (int next = 0; next < 2; ++next) {
      uint32_t r[4];
      ldmatrix_x4(r, rows + chunks_on(keys, 2 * (step + next)));
      b[next][0][0] = r[0];
      b[next][0][1] = r[1];
      b[next][1][0] = r[2];
      b[next][1][1] = r[3];
    }
  }
}

// V as the right operand of weights v: b[next][n tile] for tokens 16 step .. and the next 16,
// elements 16 pair .. of the warp's share of head_dim. 8-bit: column n of the two tiles is element
// 2 n and 2 n + 1. `values` is at KvLaneOffsets::values of the half.
template <class Tile>
__device__ __forceinline__ void load_values(uint32_t (&b)[2][2][2], const unsigned char* memory,
                                            int values, int step, int pair) {
  const unsigned char* rows = memory + step * 16 * Tile::kKvRowBytes;
  if constexpr (Tile::k8Bit) {
    uint32_t codes[4];
    ldmatrix_x4_trans(codes, rows + chunks_on(values, pair));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      b[i / 2][0][i % 2] = widen_even<typename Tile::Code>(codes[i]);
      b[i / 2][1][i % 2] = widen_odd<typename Tile::Code>(codes[i]);
    }
  } else {
#pragma unroll
    for (int next = 0; next < 2; ++next) {
      uint32_t r[4];
      ldmatrix_x4_trans(r, rows + next * 16 * Tile::kKvRowBytes + chunks_on(values, 2 * pair));
      b[next][0][0] = r[0];
      b[next][0][1] = r[1];
      b[next][1][0] = r[2];
      b[next][1][1] = r[3];
    }
  }
}

}  // namespace pelton::cuda
