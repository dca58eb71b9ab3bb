// Where device memory lies: at fixed addresses, so that an address alone tells what it is. Nothing
// here allocates; the runtime owns global memory, each host thread that runs blocks its shared
// part.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pelton::cuda::emulator {

// Clear of what ASan and the usual heap take.
inline constexpr uintptr_t kGlobalBase = 0x2000'0000'0000;
inline constexpr size_t kGlobalBytes = size_t{64} << 30;
inline constexpr uintptr_t kSharedBase = 0x3000'0000'0000;
inline constexpr size_t kSharedStride = size_t{1} << 20;  // one host thread's part
inline constexpr size_t kSharedParts = 256;

inline constexpr uintptr_t kShadowBase = 0x4000'0000'0000;  // what tracing knows of global memory

inline bool is_global(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) - kGlobalBase < kGlobalBytes;
}
inline bool is_shared(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) - kSharedBase < kSharedStride * kSharedParts;
}

}  // namespace pelton::cuda::emulator
