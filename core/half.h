// The 16-bit floating formats, fp8 e4m3 and float32, converted by bits: round to nearest even,
// subnormals, infinities and NaN kept. Pure functions.
#pragma once

#include <bit>
#include <cstdint>

namespace pelton {

constexpr float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

constexpr uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

constexpr float f16_to_f32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1FU;
  const uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  // Subnormal: mantissa * 2^-24, exact in float32.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

constexpr uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);   // NaN
  if (magnitude >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);  // rounds to infinity
  if (magnitude >= 0x38800000U) {                                              // normal
    const uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
  }
  // Subnormal: adding 0.5 leaves the result in the low bits of the mantissa, rounded to even.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
  return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000U));
}

// e4m3 as OCP's 8-bit floating point specification has it: no infinities, 0x7F and 0xFF are NaN.
constexpr float f8e4m3_to_f32(uint8_t bits) {
  if ((bits & 0x7FU) == 0x7FU) return std::bit_cast<float>(0x7FC00000U);
  const auto half = static_cast<uint16_t>((bits & 0x80U) << 8 | (bits & 0x7FU) << 7);
  return f16_to_f32(half) * 256.0F;  // exponent bias 7 instead of 15
}

// Beyond 448 it saturates, as weights and KV want it.
constexpr uint8_t f32_to_f8e4m3(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint8_t>(sign | 0x7FU);
  if (magnitude >= 0x43E00000U) return static_cast<uint8_t>(sign | 0x7EU);  // 448 and more
  if (magnitude >= 0x3C800000U) {                                           // 2^-6: normal
    const uint32_t rounded = magnitude + 0x7FFFFU + ((magnitude >> 20) & 1U);
    return static_cast<uint8_t>(sign | ((rounded - 0x3C000000U) >> 20));
  }
  // Subnormal, in steps of 2^-9: adding 2^14 leaves them in the low bits, rounded to even.
  const float shifted = std::bit_cast<float>(magnitude) + 16384.0F;
  return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000U));
}

}  // namespace pelton
