#include "tests/support/naive_dequantize.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/check.h"

namespace pelton {
namespace {

float half_to_float(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

uint16_t u16(const uint8_t* p) {
  return static_cast<uint16_t>(p[0] | (p[1] << 8));
}
float half_at(const uint8_t* p) {
  return half_to_float(u16(p));
}

// Element i of a block of 32 in Q4_0, Q4_1, Q5_0, Q5_1: a nibble and, where `high` is given, a
// fifth bit.
int small_quant(const uint8_t* nibbles, const uint8_t* high, int i) {
  const int nibble = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
  return nibble | (high == nullptr ? 0 : ((high[i / 8] >> (i % 8)) & 1) << 4);
}

struct ScaleMin {
  int scale;
  int min;
};
// The 6-bit scale and minimum of sub-block j in the 12 bytes of Q4_K and Q5_K.
ScaleMin scale_min(const uint8_t* s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4};
}

// Element i of a Q4_K (high null) or Q5_K block of 256.
float k_quant(const uint8_t* block, const uint8_t* high, const uint8_t* nibbles, int i) {
  const int sub = i / 32;
  const int byte = nibbles[(sub / 2) * 32 + i % 32];
  int q = sub % 2 == 0 ? byte & 15 : byte >> 4;
  if (high != nullptr) q |= ((high[i % 32] >> sub) & 1) << 4;
  const ScaleMin sm = scale_min(block + 4, sub);
  return half_at(block) * static_cast<float>(sm.scale) * static_cast<float>(q) -
         half_at(block + 2) * static_cast<float>(sm.min);
}

float q6_k(const uint8_t* block, int i) {
  const int part = i / 128;
  const int quarter = (i % 128) / 32;
  const int l = i % 32;
  const int low = block[part * 64 + (quarter % 2) * 32 + l];
  const int nibble = quarter < 2 ? low & 15 : low >> 4;
  const int high = (block[128 + part * 32 + l] >> (2 * quarter)) & 3;
  const auto scale = static_cast<int8_t>(block[192 + i / 16]);
  return half_at(block + 208) * static_cast<float>(scale) *
         static_cast<float>((nibble | high << 4) - 32);
}

// e4m3: 1 sign, 4 bits of exponent with a bias of 7, 3 of mantissa; no infinities.
float fp8_to_float(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return NAN;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(mantissa + 8), exponent - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

float fp8_128(const uint8_t* block, int i) {
  float scale = 0;
  std::memcpy(&scale, block, sizeof(scale));
  return scale * fp8_to_float(block[4 + i]);
}

float int4_128(const uint8_t* block, int i) {
  const int byte = block[4 + i % 64];
  return half_at(block) * static_cast<float>((i < 64 ? byte & 15 : byte >> 4) - u16(block + 2));
}

float element(DType dtype, const uint8_t* block, int i) {
  switch (dtype) {
    case DType::kF32: {
      float value = 0;
      std::memcpy(&value, block, sizeof(value));
      return value;
    }
    case DType::kF16:
      return half_at(block);
    case DType::kBF16:
      return std::bit_cast<float>(uint32_t{u16(block)} << 16);
    case DType::kQ8_0:
      return half_at(block) * static_cast<float>(static_cast<int8_t>(block[2 + i]));
    case DType::kQ4_0:
      return half_at(block) * static_cast<float>(small_quant(block + 2, nullptr, i) - 8);
    case DType::kQ4_1:
      return half_at(block) * static_cast<float>(small_quant(block + 4, nullptr, i)) +
             half_at(block + 2);
    case DType::kQ5_0:
      return half_at(block) * static_cast<float>(small_quant(block + 6, block + 2, i) - 16);
    case DType::kQ5_1:
      return half_at(block) * static_cast<float>(small_quant(block + 8, block + 4, i)) +
             half_at(block + 2);
    case DType::kQ4_K:
      return k_quant(block, nullptr, block + 16, i);
    case DType::kQ5_K:
      return k_quant(block, block + 16, block + 48, i);
    case DType::kQ6_K:
      return q6_k(block, i);
    case DType::kF8_128:
      return fp8_128(block, i);
    case DType::kI4_128:
      return int4_128(block, i);
    default:
      PELTON_CHECK(false, "naive_dequantize: dtype");
  }
}

}  // namespace

bool naive_can_dequantize(DType dtype) {
  return dtype != DType::kF8E4M3 && dtype != DType::kI8 && dtype != DType::kI32;
}

void naive_dequantize(DType dtype, const std::byte* data, int64_t elements, float* out) {
  const DTypeInfo& info = dtype_info(dtype);
  const auto* bytes = reinterpret_cast<const uint8_t*>(data);
  for (int64_t i = 0; i < elements; ++i) {
    out[i] = element(dtype, bytes + i / info.block_elements * info.block_bytes,
                     static_cast<int>(i % info.block_elements));
  }
}

}  // namespace pelton
