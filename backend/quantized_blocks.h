// GGUF's block formats: their layout in memory, and the reference conversions to and from float32
// that tests, loaders and packers share. Pure functions, thread-safe; little-endian hosts only.
#pragma once

#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace pelton {

// Scales (d, dmin, m) are IEEE half bits. In the 32-element formats qs[j] holds element j in its
// low four bits and element j + 16 in its high ones; qh holds bit 4 of element j as bit j.
struct BlockQ8_0 {
  uint16_t d;  // w = d * q
  int8_t qs[32];
};
struct BlockQ4_0 {
  uint16_t d;  // w = d * (q - 8)
  uint8_t qs[16];
};
struct BlockQ4_1 {
  uint16_t d, m;  // w = d * q + m
  uint8_t qs[16];
};
struct BlockQ5_0 {
  uint16_t d;  // w = d * (q - 16)
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ5_1 {
  uint16_t d, m;  // w = d * q + m
  uint8_t qh[4];
  uint8_t qs[16];
};
// Super-blocks of 256: eight sub-blocks of 32 with 6-bit scales s and mins m (sub_scales()).
struct BlockQ4_K {
  uint16_t d, dmin;  // w = d * s * q - dmin * m
  uint8_t scales[12];
  uint8_t qs[128];  // 64 elements per 32 bytes: the first 32 in the low four bits
};
struct BlockQ5_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];  // bit i of qh[l]: bit 4 of element l of sub-block i
  uint8_t qs[128];
};
// Sixteen sub-blocks of 16.
struct BlockQ6_K {
  uint8_t ql[128];  // 128 elements per 64 bytes
  uint8_t qh[64];   // two high bits of four elements a byte
  int8_t scales[16];
  uint16_t d;  // w = d * s * (q - 32)
};
struct BlockF8_128 {
  float d;  // w = d * e4m3(q)
  uint8_t qs[128];
};
struct BlockI4_128 {
  uint16_t d;      // w = d * (q - zero)
  uint16_t zero;   // 0 .. 15
  uint8_t qs[64];  // element j in the low four bits, element j + 64 in the high ones
};

// The unsigned codes q of one block's elements in order, of Q8_0 the signed bytes as they are.
// codes: [block_elements]
void unpack_codes(DType dtype, const void* block, uint8_t* codes);
// Scale and min of sub-block i (0..7) of a Q4_K or Q5_K block.
struct SubScale {
  uint8_t scale;
  uint8_t min;
};
SubScale sub_scale(const uint8_t scales[12], int i);

// Any floating or block format to float32, each weight rounded once at most. `elements` is a
// multiple of the block. kI8, kI32 and fp8 have no reading here: a bug to ask.
void dequantize(DType dtype, const void* blocks, int64_t elements, float* out);
// float32 to any format that dequantize() reads, by plain rounding to the nearest code (scales from
// the block's range, no search): for dummy weights and tests. Finite input only.
void quantize(DType dtype, std::span<const float> values, void* blocks);

}  // namespace pelton
