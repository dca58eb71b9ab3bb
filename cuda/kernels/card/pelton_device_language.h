// CUDA's language as nvcc has it, and the few names of ours beside it. Chosen by include path
// instead of the emulator's (cuda/emulator/include).
#pragma once

#define PELTON_CUDA_EMULATED 0

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

// `T name[count]` in shared memory, one for each block.
#define PELTON_SHARED(T, name, count) __shared__ __align__(16) T name[count]
// The launch's dynamic shared memory. One array under one type for the whole program, since nvcc
// wants equal declarations of it.
#define PELTON_DYNAMIC_SHARED(T, name)                                     \
  extern __shared__ __align__(1024) unsigned char pelton_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(pelton_dynamic_shared)

namespace pelton::cuda {

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "one argument for each parameter");
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  // Its own result: the last error may be one of a call before, which has been told already.
  return cudaLaunchKernelEx(&config, kernel,
                            static_cast<std::remove_cv_t<P>>(std::forward<A>(args))...);
}

template <class... P>
cudaError_t allow_shared(void (*kernel)(P...), size_t bytes) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace pelton::cuda
