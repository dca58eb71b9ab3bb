// Matrix products over activations that are packed for dot-product instructions: 8-bit codes with a
// scale for each 32 of k, or bf16. Compiled for each instruction set, chosen at run time; plain
// functions over raw pointers, thread-safe, no allocation.
//
// int8, for each output one chain over the blocks b (of 32; of Q6_K 16) in ascending k, from zero:
//   acc = fma(float(sum of w * (q + zero)), d_w[b] * scale[b], acc)
//   acc = fma(min[b], scale[b] * float(sum of q + zero), acc)   where the format has a min
// The sums in a block are exact: the bits are the same on every instruction set.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/kernels/tiles.h"

namespace pelton::cpu {

inline constexpr int kDotBlock = 32;  // k of a packed activation block
inline constexpr int kDotGroups = 2;  // groups that one call takes at most

// 32 activations of one token: x = scale * (q + zero), |q| <= 127. The zero lets the codes span the
// block's range where it does not lie around 0. A block with a NaN or an infinity has the scale
// NaN.
struct Int8Block {
  int8_t q[kDotBlock];
  float scale;
  float scaled_sum;          // scale * sum of (q + zero)
  int32_t negative_sum;      // -(sum of (q + zero))
  int32_t negative_sum_low;  // of the first sixteen
  int16_t zero[2];           // twice the same
};
static_assert(sizeof(Int8Block) == 52);
inline constexpr int kBf16BlockBytes = 64;  // [16 pairs of k][2]

// A tile of tokens: int8 [blocks][tokens] Int8Block; bf16 [blocks][16][tokens][2].
struct PackArgs {
  const float* x = nullptr;  // [tokens, cols]
  int64_t x_stride = 0;
  int64_t cols = 0;
  int64_t blocks = 0;  // cols rounded up, filled with zeros
  int tokens = 0;
  uint8_t* out = nullptr;
};

// One group's weights [k of the slice], unpacked to 8 bits: [blocks] of kUnpackedBytes at `stride`.
inline constexpr int kUnpackedScales = kDotBlock * kLanes;              // after the codes: two
inline constexpr int kUnpackedSums = kUnpackedScales + 2 * 4 * kLanes;  // two sums of codes
inline constexpr int kUnpackedBytes = kUnpackedSums + 2 * 4 * kLanes;
struct UnpackArgs {
  const uint8_t* tiles = nullptr;
  int64_t tile_stride = 0;
  int64_t k = 0;
  uint8_t* out = nullptr;
  int64_t stride = 0;
};

// A slice of k, for the rows of some groups and one tile of tokens.
struct DotArgs {
  const uint8_t* weights = nullptr;  // tiles, or what unpack() made
  int64_t weight_stride = 0;         // bytes from a tile or unpacked block to the next in k
  int64_t k = 0;                     // a multiple of the tile's block
  int rows = 0;                      // 1 .. kDotGroups * 16
  const uint8_t* x = nullptr;        // the tile of tokens at the slice's first block
  int tokens = 0;                    // of that tile
  bool first = true;                 // start from zero, else go on from out
  const float* bias = nullptr;       // [rows], added at the end; null in all slices but the last
  float* out = nullptr;              // [tokens, rows]
  int64_t out_stride = 0;
  const uint8_t* prefetch = nullptr;  // so many lines from here on are fetched for each 32 of k
  int prefetch_lines = 0;
};

struct DotFormat {
  void (*direct)(const DotArgs&) = nullptr;     // tiles as they are; null: no such format
  void (*unpack)(const UnpackArgs&) = nullptr;  // null: product takes tiles as well
  void (*product)(const DotArgs&) = nullptr;
  int unpacked_bytes = kUnpackedBytes;  // of a group's 32 of k
};

struct DotTable {
  const char* name = nullptr;
  int block_bytes = 0;   // of packed activations, a block and token
  int tile_tokens = 0;   // of a tile, at most
  int unpack_tiles = 0;  // from so many tiles on, unpacking pays
  void (*pack)(const PackArgs&) = nullptr;
  DotFormat formats[kNumDTypes] = {};
};

const DotTable& dot_scalar();
const DotTable& dot_avx2();       // without Q8_0
const DotTable& dot_avx2_wide();  // of Q8_0 alone
const DotTable& dot_avx512();     // with VNNI
const DotTable& dot_neon();
const DotTable& dot_neon_sdot();
const DotTable& bf16_avx512();  // of BF16 weights alone; its bits are those of the instruction

}  // namespace pelton::cpu
