#include "backend/quantized_blocks.h"
#include "core/half.h"

#include <cstring>

#include "core/check.h"

namespace pelton {
namespace {

template <typename Block>
Block load_block(const void* blocks, int64_t index) {
  Block block;
  std::memcpy(&block, static_cast<const std::byte*>(blocks) + index * sizeof(Block), sizeof(Block));
  return block;
}

void unpack_low_high(const uint8_t* qs, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = qs[j] & 15;
    codes[j + 16] = qs[j] >> 4;
  }
}

void add_fifth_bits(const uint8_t qh[4], uint8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, qh, sizeof(bits));
  for (int j = 0; j < 32; ++j) codes[j] |= ((bits >> j) & 1) << 4;
}

void unpack_k4(const uint8_t* qs, uint8_t* codes) {
  for (int half = 0; half < 4; ++half) {
    for (int l = 0; l < 32; ++l) {
      codes[64 * half + l] = qs[32 * half + l] & 15;
      codes[64 * half + 32 + l] = qs[32 * half + l] >> 4;
    }
  }
}

void unpack_k6(const BlockQ6_K& block, uint8_t* codes) {
  for (int half = 0; half < 2; ++half) {
    const uint8_t* ql = block.ql + 64 * half;
    const uint8_t* qh = block.qh + 32 * half;
    uint8_t* out = codes + 128 * half;
    for (int l = 0; l < 32; ++l) {
      out[l] = (ql[l] & 15) | ((qh[l] & 3) << 4);
      out[l + 32] = (ql[l + 32] & 15) | (((qh[l] >> 2) & 3) << 4);
      out[l + 64] = (ql[l] >> 4) | (((qh[l] >> 4) & 3) << 4);
      out[l + 96] = (ql[l + 32] >> 4) | ((qh[l] >> 6) << 4);
    }
  }
}

void dequantize_block32(DType dtype, const void* blocks, int64_t index, float* out) {
  const int block_bytes = dtype_info(dtype).block_bytes;
  const auto* block = static_cast<const std::byte*>(blocks) + index * block_bytes;
  uint8_t codes[32];
  unpack_codes(dtype, block, codes);
  uint16_t scale[2];
  std::memcpy(scale, block, sizeof(scale));
  const float d = f16_to_f32(scale[0]);
  if (dtype == DType::kQ8_0) {
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(codes[j]));
  } else if (dtype == DType::kQ4_0 || dtype == DType::kQ5_0) {
    const int offset = dtype == DType::kQ4_0 ? 8 : 16;
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(codes[j] - offset);
  } else {
    const float m = f16_to_f32(scale[1]);
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(codes[j]) + m;
  }
}

void dequantize_k45(DType dtype, const void* blocks, int64_t index, float* out) {
  // Q4_K and Q5_K begin alike.
  const auto* block = static_cast<const std::byte*>(blocks) + index * dtype_info(dtype).block_bytes;
  const auto head = load_block<BlockQ4_K>(block, 0);
  uint8_t codes[256];
  unpack_codes(dtype, block, codes);
  const float d = f16_to_f32(head.d);
  const float dmin = f16_to_f32(head.dmin);
  for (int i = 0; i < 8; ++i) {
    const SubScale sub = sub_scale(head.scales, i);
    const float scale = d * static_cast<float>(sub.scale);
    const float min = dmin * static_cast<float>(sub.min);
    for (int l = 32 * i; l < 32 * i + 32; ++l) out[l] = scale * static_cast<float>(codes[l]) - min;
  }
}

void dequantize_k6(const void* blocks, int64_t index, float* out) {
  const auto block = load_block<BlockQ6_K>(blocks, index);
  uint8_t codes[256];
  unpack_k6(block, codes);
  const float d = f16_to_f32(block.d);
  for (int l = 0; l < 256; ++l) {
    out[l] = d * static_cast<float>(block.scales[l / 16]) * static_cast<float>(codes[l] - 32);
  }
}

void dequantize_f8(const void* blocks, int64_t index, float* out) {
  const auto block = load_block<BlockF8_128>(blocks, index);
  for (int j = 0; j < 128; ++j) out[j] = block.d * f8e4m3_to_f32(block.qs[j]);
}

void dequantize_i4(const void* blocks, int64_t index, float* out) {
  const auto block = load_block<BlockI4_128>(blocks, index);
  const float d = f16_to_f32(block.d);
  for (int j = 0; j < 128; ++j) {
    const int q = j < 64 ? block.qs[j] & 15 : block.qs[j - 64] >> 4;
    out[j] = d * static_cast<float>(q - block.zero);
  }
}

}  // namespace

void unpack_codes(DType dtype, const void* block, uint8_t* codes) {
  switch (dtype) {
    case DType::kQ8_0:
      std::memcpy(codes, static_cast<const std::byte*>(block) + 2, 32);
      return;
    case DType::kQ4_0:
      return unpack_low_high(load_block<BlockQ4_0>(block, 0).qs, codes);
    case DType::kQ4_1:
      return unpack_low_high(load_block<BlockQ4_1>(block, 0).qs, codes);
    case DType::kQ5_0: {
      const auto b = load_block<BlockQ5_0>(block, 0);
      unpack_low_high(b.qs, codes);
      return add_fifth_bits(b.qh, codes);
    }
    case DType::kQ5_1: {
      const auto b = load_block<BlockQ5_1>(block, 0);
      unpack_low_high(b.qs, codes);
      return add_fifth_bits(b.qh, codes);
    }
    case DType::kQ4_K:
      return unpack_k4(load_block<BlockQ4_K>(block, 0).qs, codes);
    case DType::kQ5_K: {
      const auto b = load_block<BlockQ5_K>(block, 0);
      unpack_k4(b.qs, codes);
      for (int l = 0; l < 256; ++l) codes[l] |= ((b.qh[l % 32] >> (l / 32)) & 1) << 4;
      return;
    }
    case DType::kQ6_K:
      return unpack_k6(load_block<BlockQ6_K>(block, 0), codes);
    default:
      PELTON_CHECK(false, "not a block format");
  }
}

SubScale sub_scale(const uint8_t scales[12], int i) {
  if (i < 4) {
    return {static_cast<uint8_t>(scales[i] & 63), static_cast<uint8_t>(scales[i + 4] & 63)};
  }
  return {static_cast<uint8_t>((scales[i + 4] & 15) | ((scales[i - 4] >> 6) << 4)),
          static_cast<uint8_t>((scales[i + 4] >> 4) | ((scales[i] >> 6) << 4))};
}

void dequantize(DType dtype, const void* blocks, int64_t elements, float* out) {
  const int per_block = dtype_info(dtype).block_elements;
  PELTON_CHECK(elements % per_block == 0, "partial quantised block");
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, blocks, elements * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = f16_to_f32(load_block<uint16_t>(blocks, i));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < elements; ++i) {
        out[i] = bf16_to_f32(load_block<uint16_t>(blocks, i));
      }
      return;
    case DType::kQ4_K:
    case DType::kQ5_K:
      for (int64_t i = 0; i < elements / 256; ++i) dequantize_k45(dtype, blocks, i, out + 256 * i);
      return;
    case DType::kQ6_K:
      for (int64_t i = 0; i < elements / 256; ++i) dequantize_k6(blocks, i, out + 256 * i);
      return;
    case DType::kF8_128:
      for (int64_t i = 0; i < elements / 128; ++i) dequantize_f8(blocks, i, out + 128 * i);
      return;
    case DType::kI4_128:
      for (int64_t i = 0; i < elements / 128; ++i) dequantize_i4(blocks, i, out + 128 * i);
      return;
    default:
      PELTON_CHECK(per_block == 32, "no dequantisation of this dtype");
      for (int64_t i = 0; i < elements / 32; ++i) {
        dequantize_block32(dtype, blocks, i, out + 32 * i);
      }
  }
}

}  // namespace pelton
