// Element types of tensors, the quantised block formats of GGUF among them. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pelton {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kI8,
  kI32,
  // Block formats, GGUF's first; the layouts stand in backend/quantized_blocks.h.
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  // Ours: 128 elements that share a scale, as fp8, AWQ and GPTQ checkpoints have them.
  kF8_128,
  kI4_128,
};
inline constexpr int kNumDTypes = 16;

struct DTypeInfo {
  std::string_view name;  // lower case, as flags and GGUF spell it: "bf16", "q4_k"
  int block_elements;     // elements that share a block; 1 for plain types
  int block_bytes;        // bytes of such a block
};

const DTypeInfo& dtype_info(DType dtype);
inline bool is_quantized(DType dtype) {
  return dtype_info(dtype).block_elements > 1;
}
std::optional<DType> dtype_from_name(std::string_view name);

// Bytes of `elements` consecutive elements; elements must be a multiple of block_elements.
int64_t dtype_bytes(DType dtype, int64_t elements);

}  // namespace pelton
