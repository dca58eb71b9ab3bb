#include "backend/random_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/check.h"
#include "core/half.h"

namespace pelton {
namespace {

void store(std::byte* out, uint16_t value) {
  std::memcpy(out, &value, sizeof(value));
}

// Q4_0 and Q5_0 hold d * (q - zero), Q4_1 and Q5_1 d * q + m; q is unsigned of `bits` bits. The
// block begins with d (and m), random bits make up the rest.
void random_simple_block(int bits, bool has_min, int bytes, float amplitude, SplitMix64& random,
                         std::byte* out) {
  const auto top = static_cast<float>((1 << bits) - 1);
  random.fill(out, static_cast<size_t>(bytes));
  if (has_min) {
    store(out, f32_to_f16(2.0F * amplitude / top));
    store(out + 2, f32_to_f16(-amplitude));
  } else {
    // Off centre by half a step, as real blocks are too: zero is a value.
    store(out, f32_to_f16(amplitude / static_cast<float>(1 << (bits - 1))));
  }
}

void random_q8_block(float amplitude, SplitMix64& random, std::byte* out) {
  random.fill(out, 34);
  store(out, f32_to_f16(amplitude / 128.0F));
}

// Q4_K and Q5_K: eight sub-blocks of d * scale * q - dmin * min, scale and min of 6 bits. Equal
// scale and min, with dmin half of q's range times d, centre each sub-block.
void random_k_block(int bits, int bytes, float amplitude, SplitMix64& random, std::byte* out) {
  const auto top = static_cast<float>((1 << bits) - 1);
  random.fill(out, static_cast<size_t>(bytes));
  const float d = amplitude / (63.0F * top / 2.0F);
  store(out, f32_to_f16(d));
  store(out + 2, f32_to_f16(d * top / 2.0F));
  std::array<uint8_t, 8> scales = {};
  for (uint8_t& scale : scales) scale = static_cast<uint8_t>(32 + random.next() % 32);
  // Sub-blocks 0 to 3: scale j in byte j, min j in byte 4 + j. Sub-blocks 4 to 7: low halves of
  // both in byte 4 + j, their upper two bits atop the bytes of sub-block j - 4.
  std::array<uint8_t, 12> packed = {};
  for (size_t j = 0; j < 4; ++j) {
    packed[j] = static_cast<uint8_t>(scales[j] | ((scales[j + 4] >> 4) << 6));
    packed[j + 4] = packed[j];
    packed[j + 8] = static_cast<uint8_t>((scales[j + 4] & 0xF) | ((scales[j + 4] & 0xF) << 4));
  }
  std::memcpy(out + 4, packed.data(), packed.size());
}

// Q6_K: sixteen sub-blocks of d * scale * (q - 32), scale a signed byte; d stands at the end.
void random_q6_block(float amplitude, SplitMix64& random, std::byte* out) {
  random.fill(out, 210);
  for (int j = 0; j < 16; ++j) out[192 + j] = static_cast<std::byte>(64 + random.next() % 64);
  store(out + 208, f32_to_f16(amplitude / (127.0F * 32.0F)));
}

// Any byte but the two NaNs; values of e4m3 reach 448 and most are far smaller.
void random_f8_block(float amplitude, SplitMix64& random, std::byte* out) {
  random.fill(out, 132);
  const float d = amplitude / 448.0F;
  std::memcpy(out, &d, sizeof(d));
  for (int j = 4; j < 132; ++j) {
    if ((out[j] & std::byte{0x7F}) == std::byte{0x7F}) out[j] ^= std::byte{1};
  }
}

void random_i4_block(float amplitude, SplitMix64& random, std::byte* out) {
  random.fill(out, 68);
  store(out, f32_to_f16(amplitude / 8.0F));
  store(out + 2, 8);
}

void random_block(DType dtype, float amplitude, SplitMix64& random, std::byte* out) {
  const int bytes = dtype_info(dtype).block_bytes;
  switch (dtype) {
    case DType::kQ8_0:
      return random_q8_block(amplitude, random, out);
    case DType::kQ4_0:
      return random_simple_block(4, false, bytes, amplitude, random, out);
    case DType::kQ4_1:
      return random_simple_block(4, true, bytes, amplitude, random, out);
    case DType::kQ5_0:
      return random_simple_block(5, false, bytes, amplitude, random, out);
    case DType::kQ5_1:
      return random_simple_block(5, true, bytes, amplitude, random, out);
    case DType::kQ4_K:
      return random_k_block(4, bytes, amplitude, random, out);
    case DType::kQ5_K:
      return random_k_block(5, bytes, amplitude, random, out);
    case DType::kQ6_K:
      return random_q6_block(amplitude, random, out);
    case DType::kF8_128:
      return random_f8_block(amplitude, random, out);
    case DType::kI4_128:
      return random_i4_block(amplitude, random, out);
    default:
      PELTON_CHECK(false, "no block format");
  }
}

}  // namespace

void SplitMix64::fill(std::byte* out, size_t count) {
  for (size_t i = 0; i < count; i += 8) {
    const uint64_t bits = next();
    std::memcpy(out + i, &bits, std::min<size_t>(8, count - i));
  }
}

void random_elements(DType dtype, int64_t count, float amplitude, SplitMix64& random,
                     std::byte* out) {
  const DTypeInfo& info = dtype_info(dtype);
  if (info.block_elements > 1) {
    for (int64_t block = 0; block < count / info.block_elements; ++block) {
      random_block(dtype, amplitude, random, out + block * info.block_bytes);
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const float value = amplitude * (2.0F * random.uniform() - 1.0F);
    switch (dtype) {
      case DType::kF32:
        std::memcpy(out + i * 4, &value, sizeof(value));
        break;
      case DType::kF16:
        store(out + i * 2, f32_to_f16(value));
        break;
      case DType::kBF16:
        store(out + i * 2, f32_to_bf16(value));
        break;
      default:
        PELTON_CHECK(false, "no float format");
    }
  }
}

}  // namespace pelton
