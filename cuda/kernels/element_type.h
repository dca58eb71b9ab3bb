// The types that activations have on the device. Kernels take them as a field of their params.
#pragma once

#include <cstdint>

namespace pelton::cuda {

enum class ElementType : uint8_t { kBF16, kF16 };

}  // namespace pelton::cuda
