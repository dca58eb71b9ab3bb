// Weight matrices on the device: every format in the order in which a warp's tensor instructions
// take them ("fragment order"), so that each load is 16 bytes a lane and each byte is read once.
// Pure functions for host and device.
//
// A matrix [n, k] is cut into row tiles of 16 and units along k (64, or the 128 or 256 that share
// scales); k is padded with zeros to whole units, n to whole tiles. All units of a row tile
// lie back to back. A unit holds the codes of its chunks (64 of k each), then its scales:
//   codes, 8 bit:   [step pair 2][lane 32] 16 bytes: words (step, register pair)
//   codes, 4 bit:   [lane 32] 16 bytes: word = step; register p at bits 4p and 16 + 4p
//   fifth bit:      [lane 32] 4 bytes: (step, register) at bits 4 step + p and 16 more
//   two high bits:  [lane 32] 8 bytes: word = step / 2; at bits 2 (4 (step % 2) + p) and 16 more
//   scales:         [row % 8][row / 8][...], see each format below
// 16-bit weights stay as they are, row after row, each padded to whole chunks (a matrix product of
// a library can read them, too): with the order of k below, a lane's share of a row is 16 bytes.
// Within 32 of k (16 where the format's scales change every 16) the order of k is permuted, alike
// in weights and activations: a lane's share of the activations is then one 16-byte load.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

// The names are those of core/dtype.h; k16Bit holds the activations' own type.
enum class WeightFormat : uint8_t {
  k16Bit,
  kQ8_0,    // scales: [row % 8][row / 8][block 2] f16 d
  kQ4_0,    // the same
  kQ4_1,    // [row % 8][row / 8][block 2][d, m] f16
  kQ5_0,    // as kQ4_0
  kQ5_1,    // as kQ4_1
  kQ4_K,    // [chunk 4][row % 8][row / 8][block 2][scale, min] u8, then [row % 8][row / 8][d, dmin]
  kQ5_K,    // the same
  kQ6_K,    // [chunk 4][row % 8][row / 8][block of 16: 4] i8, then [row % 8][row / 8] d
  kF8_128,  // [row % 8][row / 8] f32 d; codes are e4m3
  kI4_128,  // [row % 8][row / 8][d, zero] f16, u16
};
inline constexpr int kNumWeightFormats = 11;

inline constexpr int kTileRows = 16;
inline constexpr int kChunkK = 64;
// A product's sum over k is cut into this many runs of units, by (n, k) alone; each is one chain of
// tensor instructions, and the runs are added in order. That is what makes a row's result the same
// for every number of rows and every kernel.
inline constexpr int kLinearRuns = 8;

struct WeightLayout {
  int code_bits;    // 4, 5, 6, 8 or 16
  int unit_k;       // elements of k in a unit
  int scale_bytes;  // of a unit
  int scale_block;  // elements of k that share a scale
  bool has_min;     // w = scale * q + min (K-quants: - min)
  int file_block;   // elements of a block in the file; 1 for 16-bit
  int file_bytes;   // of such a block
};

__host__ __device__ constexpr WeightLayout weight_layout(WeightFormat format) {
  switch (format) {
    case WeightFormat::k16Bit:
      return {16, 64, 0, 64, false, 1, 2};
    case WeightFormat::kQ8_0:
      return {8, 64, 64, 32, false, 32, 34};
    case WeightFormat::kQ4_0:
      return {4, 64, 64, 32, false, 32, 18};
    case WeightFormat::kQ4_1:
      return {4, 64, 128, 32, true, 32, 20};
    case WeightFormat::kQ5_0:
      return {5, 64, 64, 32, false, 32, 22};
    case WeightFormat::kQ5_1:
      return {5, 64, 128, 32, true, 32, 24};
    case WeightFormat::kQ4_K:
      return {4, 256, 320, 32, true, 256, 144};
    case WeightFormat::kQ5_K:
      return {5, 256, 320, 32, true, 256, 176};
    case WeightFormat::kQ6_K:
      return {6, 256, 288, 16, false, 256, 210};
    case WeightFormat::kF8_128:
      return {8, 128, 64, 128, false, 128, 132};
    case WeightFormat::kI4_128:
      return {4, 128, 64, 128, true, 128, 68};
  }
  return {};
}

// Bytes of the codes of one chunk of one row tile.
__host__ __device__ constexpr int chunk_code_bytes(WeightFormat format) {
  return kTileRows * kChunkK * weight_layout(format).code_bits / 8;
}
__host__ __device__ constexpr int unit_bytes(WeightFormat format) {
  const WeightLayout layout = weight_layout(format);
  return layout.unit_k / kChunkK * chunk_code_bytes(format) + layout.scale_bytes;
}
__host__ __device__ constexpr int64_t units_of(WeightFormat format, int64_t k) {
  return (k + weight_layout(format).unit_k - 1) / weight_layout(format).unit_k;
}
__host__ __device__ constexpr int64_t row_tile_bytes(WeightFormat format, int64_t k) {
  return units_of(format, k) * unit_bytes(format);
}
// Elements from a row to the next in k16Bit.
__host__ __device__ constexpr int64_t row_elements_16(int64_t k) {
  return (k + kChunkK - 1) / kChunkK * kChunkK;
}
// Bytes that a packed matrix takes on the device.
__host__ __device__ constexpr int64_t packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  return (n + kTileRows - 1) / kTileRows * row_tile_bytes(format, k);
}
// Bytes of a row in the file.
__host__ __device__ constexpr int64_t file_row_bytes(WeightFormat format, int64_t k) {
  return k / weight_layout(format).file_block * weight_layout(format).file_bytes;
}

// Which k of a chunk the half `h` of a register stands for: step 0..3, lane % 4 = t, half of the
// instruction's k (register / 2 of A, register of B) `kh`.
__host__ __device__ constexpr int chunk_k(int scale_block, int step, int t, int kh, int h) {
  return scale_block == 16 ? 16 * step + 4 * t + 2 * kh + h
                           : 32 * (step / 2) + 8 * t + 4 * (step % 2) + 2 * kh + h;
}

}  // namespace pelton::cuda
