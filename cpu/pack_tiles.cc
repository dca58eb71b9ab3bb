#include "cpu/pack_tiles.h"

#include <cstring>

#include "backend/quantized_blocks.h"

namespace pelton::cpu {
namespace {

using Four = uint32_t __attribute__((vector_size(16)));
using Bytes = uint8_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(16)));

constexpr uint32_t kNibbles = 0x0F0F0F0FU;
// Far enough ahead in each of the rows that are read together; they are too many for the hardware.
constexpr int kAheadBytes = 512;

Four load_four(const std::byte* p) {
  Four v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// Four lanes of a tile and the four rows they come from.
struct Quad {
  const std::byte* row[4];
  uint8_t* tile;
  int lane;

  // Sixteen bytes of each row: out[i] holds word i of every row.
  void words(int64_t at, Four out[4]) const {
    const Four a = load_four(row[0] + at), b = load_four(row[1] + at);
    const Four c = load_four(row[2] + at), d = load_four(row[3] + at);
    const Four low_ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Four low_cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const Four high_ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Four high_cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    out[0] = __builtin_shufflevector(low_ab, low_cd, 0, 1, 4, 5);
    out[1] = __builtin_shufflevector(low_ab, low_cd, 2, 3, 6, 7);
    out[2] = __builtin_shufflevector(high_ab, high_cd, 0, 1, 4, 5);
    out[3] = __builtin_shufflevector(high_ab, high_cd, 2, 3, 6, 7);
  }
  // One 32-bit word of each row.
  Four word(int64_t at) const {
    Four w;
    for (int i = 0; i < 4; ++i) {
      uint32_t one;
      std::memcpy(&one, row[i] + at, sizeof(one));
      w[i] = one;
    }
    return w;
  }
  // Word `index` of the part of the tile that begins at `part`.
  void put(int part, int index, Four value) const {
    std::memcpy(tile + part + (index * kLanes + lane) * 4, &value, sizeof(value));
  }
  void put_half(int part, int64_t at) const {
    for (int i = 0; i < 4; ++i) {
      std::memcpy(tile + part + (lane + i) * 2, row[i] + at, sizeof(uint16_t));
    }
  }
  // Bytes 0 to 3 of each word to the lanes of rows index .. index + 3 of an 8-bit part.
  void put_bytes(int part, int index, Four value) const {
    const auto bytes = reinterpret_cast<Bytes>(value);
    const Bytes turned =
        __builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int i = 0; i < 4; ++i) {
      std::memcpy(tile + part + (index + i) * kLanes + lane,
                  reinterpret_cast<const uint8_t*>(&turned) + 4 * i, 4);
    }
  }
};

// Two quads of bytes that hold two codes each, to the words of the low codes and of the high ones.
void put_nibbles(const Quad& q, int part, Four first, Four second, int low, int high) {
  q.put(part, low, (first & kNibbles) | (second & kNibbles) << 4);
  q.put(part, high, (first >> 4 & kNibbles) | (second & ~kNibbles));
}

// Exchanges the bits whose positions differ in bits kLow and kHigh of the position.
template <int kLow, int kHigh>
Four swap_position_bits(Four x) {
  constexpr int kShift = (1 << kHigh) - (1 << kLow);
  constexpr uint32_t kMask = [] {
    uint32_t mask = 0;
    for (int bit = 0; bit < 32; ++bit) {
      if ((bit >> kLow & 1) == 1 && (bit >> kHigh & 1) == 0) mask |= uint32_t{1} << bit;
    }
    return mask;
  }();
  const Four moved = (x >> kShift ^ x) & kMask;
  return x ^ moved ^ moved << kShift;
}

// Bit j to bit 8 * (j % 4) + j / 4.
Four spread_fifth_bits(Four x) {
  x = swap_position_bits<0, 2>(x);
  x = swap_position_bits<1, 3>(x);
  x = swap_position_bits<2, 4>(x);
  return swap_position_bits<3, 4>(x);
}

template <DType kDType>
void pack_block32(const Quad& q) {
  constexpr TileLayout kLayout = tile_layout(kDType);
  constexpr int kHead = kLayout.min >= 0 ? 4 : 2;
  constexpr int kHigh = kLayout.high_bits > 0 ? 4 : 0;
  q.put_half(kLayout.d, 0);
  if constexpr (kLayout.min >= 0) q.put_half(kLayout.min, 2);
  if constexpr (kHigh > 0) q.put(kLayout.high, 0, spread_fifth_bits(q.word(kHead)));
  Four w[4];
  q.words(kHead + kHigh, w);
  put_nibbles(q, kLayout.codes, w[0], w[1], 0, 2);
  put_nibbles(q, kLayout.codes, w[2], w[3], 1, 3);
}

void pack_q8(const Quad& q) {
  constexpr TileLayout kLayout = tile_layout(DType::kQ8_0);
  q.put_half(kLayout.d, 0);
  for (int part = 0; part < 2; ++part) {
    Four w[4];
    q.words(2 + 16 * part, w);
    for (int i = 0; i < 4; ++i) q.put(kLayout.codes, 4 * part + i, w[i] ^ 0x80808080U);
  }
}

// Scales and mins of 6 bits: those of the first four sub-blocks stand alone, the others' low bits
// in one word and their high ones above the first (sub_scale()).
void pack_sub_scales(const Quad& q, const TileLayout& layout, int64_t at) {
  constexpr uint32_t kSix = 0x3F3F3F3FU, kTwo = 0x03030303U;
  const Four scales = q.word(at), mins = q.word(at + 4), low = q.word(at + 8);
  q.put_bytes(layout.scales, 0, scales & kSix);
  q.put_bytes(layout.scales, 4, (low & kNibbles) | (scales >> 6 & kTwo) << 4);
  q.put_bytes(layout.mins, 0, mins & kSix);
  q.put_bytes(layout.mins, 4, (low >> 4 & kNibbles) | (mins >> 6 & kTwo) << 4);
}

template <DType kDType>
void pack_k45(const Quad& q) {
  constexpr TileLayout kLayout = tile_layout(kDType);
  constexpr bool kFive = kDType == DType::kQ5_K;
  q.put_half(kLayout.d, 0);
  q.put_half(kLayout.min, 2);
  pack_sub_scales(q, kLayout, 4);
  if constexpr (kFive) {
    Four h[8];
    q.words(16, h);
    q.words(32, h + 4);
    for (int sub = 0; sub < 8; ++sub) {
      Four word = h[0] >> sub & 0x01010101U;
      for (int i = 1; i < 8; ++i) word |= (h[i] >> sub & 0x01010101U) << i;
      q.put(kLayout.high, sub, word);
    }
  }
  for (int part = 0; part < 8; ++part) {  // of 32 codes: half of two sub-blocks
    Four w[4];
    q.words((kFive ? 48 : 16) + 16 * part, w);
    const int low = part / 2 * 8 + part % 2 * 2;
    put_nibbles(q, kLayout.codes, w[0], w[1], low, low + 4);
    put_nibbles(q, kLayout.codes, w[2], w[3], low + 1, low + 5);
  }
}

void pack_q6(const Quad& q) {
  constexpr TileLayout kLayout = tile_layout(DType::kQ6_K);
  Four s[4];
  q.put_half(kLayout.d, offsetof(BlockQ6_K, d));
  q.words(offsetof(BlockQ6_K, scales), s);
  for (int i = 0; i < 4; ++i) q.put_bytes(kLayout.scales, 4 * i, s[i]);
  for (int part = 0; part < 8; ++part) {  // 16 bytes: codes of 16 k, and of 16 that are 64 further
    Four w[4];
    q.words(16 * part, w);
    const int low = part / 4 * 16 + part % 4 * 2;
    put_nibbles(q, kLayout.codes, w[0], w[1], low, low + 8);
    put_nibbles(q, kLayout.codes, w[2], w[3], low + 1, low + 9);
  }
  for (int part = 0; part < 4; ++part) {  // 16 bytes: bits of 16 k in each of four runs of 32
    Four h[4];
    q.words(offsetof(BlockQ6_K, qh) + 16 * part, h);
    for (int run = 0; run < 4; ++run) {
      Four word = h[0] >> 2 * run & 0x03030303U;
      for (int i = 1; i < 4; ++i) word |= (h[i] >> 2 * run & 0x03030303U) << 2 * i;
      q.put(kLayout.high, part / 2 * 8 + 2 * run + part % 2, word);
    }
  }
}

void pack_words(const Quad& q, int64_t at, int index) {
  Four w[4];
  q.words(at, w);
  for (int i = 0; i < 4; ++i) q.put(0, index + i, w[i]);
}
void pack_f32(const Quad& q) {
  pack_words(q, 0, 0);
  pack_words(q, 16, 4);
}
void pack_bf16(const Quad& q) {
  pack_words(q, 0, 0);
}
void pack_f16(const Quad& q) {
  Four w[4];
  q.words(0, w);
  for (int i = 0; i < 4; ++i) {
    const auto pairs = reinterpret_cast<Halves>(w[i]);
    const Halves apart = __builtin_shufflevector(pairs, pairs, 0, 2, 4, 6, 1, 3, 5, 7);
    for (int j = 0; j < 2; ++j) {
      std::memcpy(q.tile + ((2 * i + j) * kLanes + q.lane) * 2,
                  reinterpret_cast<const uint8_t*>(&apart) + 8 * j, 8);
    }
  }
}

template <void (*kPack)(const Quad&)>
void pack_tiles(const PackTilesArgs& a) {
  for (int lane = 0; lane < kLanes; lane += 4) {
    Quad q = {{a.rows[lane], a.rows[lane + 1], a.rows[lane + 2], a.rows[lane + 3]}, a.tile, lane};
    for (int64_t i = 0; i < a.count; ++i) {
      for (int64_t at = 0; at < a.row_step; at += 64) {
        for (const std::byte* row : q.row) __builtin_prefetch(row + kAheadBytes + at, 0, 3);
      }
      kPack(q);
      for (const std::byte*& row : q.row) row += a.row_step;
      q.tile += a.tile_stride;
    }
  }
}

}  // namespace

int64_t tile_file_bytes(DType dtype) {
  return dtype_bytes(dtype, tile_layout(dtype).block);
}

void (*pack_tiles_of(DType dtype))(const PackTilesArgs&) {
  switch (dtype) {
    case DType::kF32:
      return pack_tiles<pack_f32>;
    case DType::kF16:
      return pack_tiles<pack_f16>;
    case DType::kBF16:
      return pack_tiles<pack_bf16>;
    case DType::kQ8_0:
      return pack_tiles<pack_q8>;
    case DType::kQ4_0:
      return pack_tiles<pack_block32<DType::kQ4_0>>;
    case DType::kQ4_1:
      return pack_tiles<pack_block32<DType::kQ4_1>>;
    case DType::kQ5_0:
      return pack_tiles<pack_block32<DType::kQ5_0>>;
    case DType::kQ5_1:
      return pack_tiles<pack_block32<DType::kQ5_1>>;
    case DType::kQ4_K:
      return pack_tiles<pack_k45<DType::kQ4_K>>;
    case DType::kQ5_K:
      return pack_tiles<pack_k45<DType::kQ5_K>>;
    case DType::kQ6_K:
      return pack_tiles<pack_q6>;
    default:
      return nullptr;
  }
}

}  // namespace pelton::cpu
