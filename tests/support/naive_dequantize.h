// Stored weights to float32, one element at a time; the layouts as GGUF's published description
// gives them, read apart from the product's own code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace pelton {

bool naive_can_dequantize(DType dtype);
// elements: a multiple of the dtype's block.
void naive_dequantize(DType dtype, const std::byte* data, int64_t elements, float* out);

}  // namespace pelton
