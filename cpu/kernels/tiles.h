// How packed weights lie in memory. Sixteen output rows form a group, whose lanes sit side by side;
// up to four groups form a panel. A panel is a sequence of k-blocks, each holding one tile for each
// of its groups, so that a GEMV over 64 rows reads one ascending stream.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace pelton::cpu {

inline constexpr int kLanes = 16;       // rows of a group
inline constexpr int kPanelGroups = 4;  // groups of a panel (fewer in a matrix' last one)
inline constexpr int kPanelRows = kLanes * kPanelGroups;

// Offsets in bytes of a tile's parts; -1: absent. Lane r of each part belongs to row r. Codes lie
// in quads: a lane's 32 bits hold four consecutive k, the operand of an 8-bit dot product (of
// 16-bit formats: pairs).
struct TileLayout {
  int block = 0;    // values of k in a tile
  int d = -1;       // f16 [16]
  int min = -1;     // f16 [16]
  int scales = -1;  // 8 bits [sub-blocks][16]
  int mins = -1;    // u8 [sub-blocks][16]
  // u32 [block * high_bits / 32][16]: the codes' bits above the fourth. Quad q's (of those in the
  // word) stand at bit high_bits * q of bytes 0 to 3.
  int high = -1;
  int high_bits = 0;  // a code
  // 4-bit: u32 [block / 8][16], one quad in the low halves of the bytes and the next in the high
  // ones; 8-bit: u32 [block / 4][16], code + 128; bf16: [block / 2][16][2]; else [block][16]
  int codes = 0;
  int code_bits = 0;  // 4, 8, 16 or 32
  int bytes = 0;      // of the tile
  int sub_block = 0;  // k that share a scale
};

constexpr TileLayout make_layout(int block, int sub_block, int d_parts, int sub_scales,
                                 int high_bits, int code_bits) {
  TileLayout t;
  t.block = block;
  t.sub_block = sub_block;
  int at = 0;
  if (d_parts > 0) {
    t.d = at;
    at += 2 * kLanes;
  }
  if (d_parts > 1) {
    t.min = at;
    at += 2 * kLanes;
  } else if (block == 256) {
    at = 4 * kLanes;  // codes begin with a line: Q6_K grows by 1%, and no load spans two
  }
  const int subs = block / sub_block;
  if (sub_scales > 0) {
    t.scales = at;
    at += subs * kLanes;
  }
  if (sub_scales > 1) {
    t.mins = at;
    at += subs * kLanes;
  }
  if (high_bits > 0) {
    t.high = at;
    t.high_bits = high_bits;
    at += block * high_bits / 8 * kLanes;
  }
  t.codes = at;
  t.code_bits = code_bits;
  t.bytes = at + block * code_bits / 8 * kLanes;
  return t;
}

// block 0: the backend has no kernel for this dtype.
constexpr TileLayout tile_layout(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return make_layout(8, 8, 0, 0, 0, 32);
    case DType::kF16:
    case DType::kBF16:
      return make_layout(8, 8, 0, 0, 0, 16);
    case DType::kQ8_0:
      return make_layout(32, 32, 1, 0, 0, 8);
    case DType::kQ4_0:
      return make_layout(32, 32, 1, 0, 0, 4);
    case DType::kQ4_1:
      return make_layout(32, 32, 2, 0, 0, 4);
    case DType::kQ5_0:
      return make_layout(32, 32, 1, 0, 1, 4);
    case DType::kQ5_1:
      return make_layout(32, 32, 2, 0, 1, 4);
    case DType::kQ4_K:
      return make_layout(256, 32, 2, 2, 0, 4);
    case DType::kQ5_K:
      return make_layout(256, 32, 2, 2, 1, 4);
    case DType::kQ6_K:
      return make_layout(256, 16, 1, 1, 2, 4);
    default:
      return {};
  }
}

}  // namespace pelton::cpu
