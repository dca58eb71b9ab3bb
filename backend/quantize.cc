// The quantising half of quantized_blocks.h.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/quantized_blocks.h"
#include "core/check.h"
#include "core/half.h"

namespace pelton {
namespace {

uint8_t nearest_code(float value, float inverse_scale, int offset, int max_code) {
  return static_cast<uint8_t>(
      std::clamp(static_cast<int>(std::lrint(value * inverse_scale)) + offset, 0, max_code));
}

float inverse(float scale) {
  return scale == 0 ? 0.0F : 1.0F / scale;
}

void pack_low_high(const uint8_t codes[32], uint8_t qs[16]) {
  for (int j = 0; j < 16; ++j) qs[j] = (codes[j] & 15) | ((codes[j + 16] & 15) << 4);
}

void pack_fifth_bits(const uint8_t codes[32], uint8_t qh[4]) {
  uint32_t bits = 0;
  for (int j = 0; j < 32; ++j) bits |= static_cast<uint32_t>((codes[j] >> 4) & 1) << j;
  std::memcpy(qh, &bits, sizeof(bits));
}

// w = d * (q - offset): the value of largest magnitude gets code 0, so that all codes are used.
uint16_t symmetric_codes(const float* x, int offset, uint8_t codes[32]) {
  float extreme = 0;
  for (int j = 0; j < 32; ++j) {
    if (std::fabs(x[j]) > std::fabs(extreme)) extreme = x[j];
  }
  const uint16_t d = f32_to_f16(extreme / static_cast<float>(-offset));
  const float inv = inverse(f16_to_f32(d));
  for (int j = 0; j < 32; ++j) codes[j] = nearest_code(x[j], inv, offset, 2 * offset - 1);
  return d;
}

struct Affine {
  uint16_t d, m;
};
Affine affine_codes(const float* x, int max_code, uint8_t codes[32]) {
  const auto [lo, hi] = std::minmax_element(x, x + 32);
  const Affine scale = {f32_to_f16((*hi - *lo) / static_cast<float>(max_code)), f32_to_f16(*lo)};
  const float inv = inverse(f16_to_f32(scale.d));
  const float m = f16_to_f32(scale.m);
  for (int j = 0; j < 32; ++j) codes[j] = nearest_code(x[j] - m, inv, 0, max_code);
  return scale;
}

void quantize_one(const float* x, BlockQ8_0& out) {
  float amax = 0;
  for (int j = 0; j < 32; ++j) amax = std::max(amax, std::fabs(x[j]));
  out.d = f32_to_f16(amax / 127.0F);
  const float inv = inverse(f16_to_f32(out.d));
  for (int j = 0; j < 32; ++j) {
    out.qs[j] = static_cast<int8_t>(std::clamp<long>(std::lrint(x[j] * inv), -127, 127));
  }
}

void quantize_one(const float* x, BlockQ4_0& out) {
  uint8_t codes[32];
  out.d = symmetric_codes(x, 8, codes);
  pack_low_high(codes, out.qs);
}

void quantize_one(const float* x, BlockQ4_1& out) {
  uint8_t codes[32];
  const Affine scale = affine_codes(x, 15, codes);
  out.d = scale.d;
  out.m = scale.m;
  pack_low_high(codes, out.qs);
}

void quantize_one(const float* x, BlockQ5_0& out) {
  uint8_t codes[32];
  out.d = symmetric_codes(x, 16, codes);
  pack_low_high(codes, out.qs);
  pack_fifth_bits(codes, out.qh);
}

void quantize_one(const float* x, BlockQ5_1& out) {
  uint8_t codes[32];
  const Affine scale = affine_codes(x, 31, codes);
  out.d = scale.d;
  out.m = scale.m;
  pack_low_high(codes, out.qs);
  pack_fifth_bits(codes, out.qh);
}

// Scales and mins (w = d s q - dmin m, so m is the depth below zero) of the eight sub-blocks.
template <typename Block>
void quantize_k45(const float* x, int max_code, Block& out, uint8_t codes[256]) {
  float range[8], depth[8], max_range = 0, max_depth = 0;
  for (int i = 0; i < 8; ++i) {
    const auto [lo, hi] = std::minmax_element(x + 32 * i, x + 32 * i + 32);
    depth[i] = std::max(0.0F, -*lo);
    range[i] = (std::max(*hi, -depth[i]) + depth[i]) / static_cast<float>(max_code);
    max_range = std::max(max_range, range[i]);
    max_depth = std::max(max_depth, depth[i]);
  }
  out.d = f32_to_f16(max_range / 63.0F);
  out.dmin = f32_to_f16(max_depth / 63.0F);
  const float d = f16_to_f32(out.d), dmin = f16_to_f32(out.dmin);
  std::memset(out.scales, 0, sizeof(out.scales));
  for (int i = 0; i < 8; ++i) {
    const uint8_t s = nearest_code(range[i], inverse(d), 0, 63);
    const uint8_t m = nearest_code(depth[i], inverse(dmin), 0, 63);
    if (i < 4) {
      out.scales[i] |= s;
      out.scales[i + 4] |= m;
    } else {
      out.scales[i + 4] = (s & 15) | ((m & 15) << 4);
      out.scales[i - 4] |= (s >> 4) << 6;
      out.scales[i] |= (m >> 4) << 6;
    }
    const float inv = inverse(d * static_cast<float>(s));
    const float min = dmin * static_cast<float>(m);
    for (int l = 32 * i; l < 32 * i + 32; ++l)
      codes[l] = nearest_code(x[l] + min, inv, 0, max_code);
  }
  for (int l = 0; l < 256; ++l) {
    uint8_t& byte = out.qs[l / 64 * 32 + l % 32];
    const uint8_t low = codes[l] & 15;
    byte = l % 64 < 32 ? low : static_cast<uint8_t>(byte | (low << 4));
  }
}

void quantize_one(const float* x, BlockQ4_K& out) {
  uint8_t codes[256];
  quantize_k45(x, 15, out, codes);
}

void quantize_one(const float* x, BlockQ5_K& out) {
  uint8_t codes[256];
  quantize_k45(x, 31, out, codes);
  std::memset(out.qh, 0, sizeof(out.qh));
  for (int l = 0; l < 256; ++l) out.qh[l % 32] |= (codes[l] >> 4) << (l / 32);
}

void quantize_one(const float* x, BlockQ6_K& out) {
  float scale[16], max_scale = 0;
  for (int i = 0; i < 16; ++i) {
    float amax = 0;
    for (int l = 16 * i; l < 16 * i + 16; ++l) amax = std::max(amax, std::fabs(x[l]));
    scale[i] = amax / 31.0F;
    max_scale = std::max(max_scale, scale[i]);
  }
  out.d = f32_to_f16(max_scale / 127.0F);
  const float d = f16_to_f32(out.d);
  std::memset(out.ql, 0, sizeof(out.ql));
  std::memset(out.qh, 0, sizeof(out.qh));
  for (int l = 0; l < 256; ++l) {
    const int i = l / 16;
    out.scales[i] = static_cast<int8_t>(nearest_code(scale[i], inverse(d), 0, 127));
    const uint8_t code = nearest_code(x[l], inverse(d * static_cast<float>(out.scales[i])), 32, 63);
    const int half = l / 128, quarter = l % 128 / 32, at = l % 32;
    out.ql[64 * half + 32 * (quarter & 1) + at] |= (code & 15) << (4 * (quarter >> 1));
    out.qh[32 * half + at] |= (code >> 4) << (2 * quarter);
  }
}

void quantize_one(const float* x, BlockF8_128& out) {
  float amax = 0;
  for (int j = 0; j < 128; ++j) amax = std::max(amax, std::fabs(x[j]));
  out.d = amax / 448.0F;
  for (int j = 0; j < 128; ++j) out.qs[j] = f32_to_f8e4m3(x[j] * inverse(out.d));
}

void quantize_one(const float* x, BlockI4_128& out) {
  const auto [lo, hi] = std::minmax_element(x, x + 128);
  const float low = std::min(*lo, 0.0F), high = std::max(*hi, 0.0F);
  out.d = f32_to_f16((high - low) / 15.0F);
  const float inv = inverse(f16_to_f32(out.d));
  out.zero = nearest_code(-low, inv, 0, 15);
  std::memset(out.qs, 0, sizeof(out.qs));
  for (int j = 0; j < 128; ++j) {
    out.qs[j % 64] |= nearest_code(x[j], inv, out.zero, 15) << (j < 64 ? 0 : 4);
  }
}

template <typename Block>
void quantize_all(std::span<const float> values, int per_block, void* blocks) {
  for (size_t i = 0; i < values.size() / per_block; ++i) {
    Block block;
    quantize_one(values.data() + i * per_block, block);
    std::memcpy(static_cast<std::byte*>(blocks) + i * sizeof(Block), &block, sizeof(Block));
  }
}

}  // namespace

void quantize(DType dtype, std::span<const float> values, void* blocks) {
  const int per_block = dtype_info(dtype).block_elements;
  PELTON_CHECK(values.size() % per_block == 0, "partial quantised block");
  auto* halves = static_cast<uint16_t*>(blocks);
  switch (dtype) {
    case DType::kF32:
      std::memcpy(blocks, values.data(), values.size_bytes());
      return;
    case DType::kF16:
      std::transform(values.begin(), values.end(), halves, f32_to_f16);
      return;
    case DType::kBF16:
      std::transform(values.begin(), values.end(), halves, f32_to_bf16);
      return;
    case DType::kQ8_0:
      return quantize_all<BlockQ8_0>(values, per_block, blocks);
    case DType::kQ4_0:
      return quantize_all<BlockQ4_0>(values, per_block, blocks);
    case DType::kQ4_1:
      return quantize_all<BlockQ4_1>(values, per_block, blocks);
    case DType::kQ5_0:
      return quantize_all<BlockQ5_0>(values, per_block, blocks);
    case DType::kQ5_1:
      return quantize_all<BlockQ5_1>(values, per_block, blocks);
    case DType::kQ4_K:
      return quantize_all<BlockQ4_K>(values, per_block, blocks);
    case DType::kQ5_K:
      return quantize_all<BlockQ5_K>(values, per_block, blocks);
    case DType::kQ6_K:
      return quantize_all<BlockQ6_K>(values, per_block, blocks);
    case DType::kF8_128:
      return quantize_all<BlockF8_128>(values, per_block, blocks);
    case DType::kI4_128:
      return quantize_all<BlockI4_128>(values, per_block, blocks);
    default:
      PELTON_CHECK(false, "no quantisation to this dtype");
  }
}

}  // namespace pelton
