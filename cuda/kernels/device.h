// Included first by every .cu file: CUDA's language, for nvcc or for the emulator, whichever stands
// on the include path. The rules for kernel code are in cuda/kernels/README.md.
#pragma once

#include <pelton_device_language.h>

#include <cstddef>
#include <cstdint>

namespace pelton::cuda {

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xffffffffu;

constexpr unsigned ceil_div(size_t a, size_t b) {
  return static_cast<unsigned>((a + b - 1) / b);
}

}  // namespace pelton::cuda
