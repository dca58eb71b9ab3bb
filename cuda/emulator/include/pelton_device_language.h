// CUDA's language for a host compiler: what a .cu file may use, on top of CUDA's own headers.
// Chosen by include path instead of the card's (cuda/kernels/card). Kernel code only.
#pragma once

#define PELTON_CUDA_EMULATED 1

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <tuple>
#include <utility>

#include "cuda/emulator/device_math.h"
#include "cuda/emulator/lane_language.h"
#include "cuda/emulator/launch.h"

#undef __launch_bounds__
#define __launch_bounds__(...)

// Set when a lane begins to run or comes back: a block's lanes share one host thread.
inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
inline constexpr int warpSize = 32;

// `T name[count]` in shared memory, one for each block; at namespace or function scope alike on a
// card, at function scope here.
#define PELTON_SHARED(T, name, count)                                          \
  static constexpr ::pelton::cuda::emulator::SharedArray pelton_shared_##name{ \
      #name, sizeof(T) * (count), alignof(T) < 16 ? size_t{16} : alignof(T)};  \
  T(&name)                                                                     \
  [count] =                                                                    \
      *reinterpret_cast<T(*)[count]>(::pelton::cuda::emulator::shared_array(pelton_shared_##name))
#define PELTON_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::pelton::cuda::emulator::dynamic_shared())

#define PELTON_SITE ::pelton::cuda::emulator::Site site = ::pelton::cuda::emulator::Site::current()

inline void __syncthreads(PELTON_SITE) {
  pelton::cuda::emulator::syncthreads(site);
}
inline int __syncthreads_count(int predicate, PELTON_SITE) {
  using pelton::cuda::emulator::BarrierVote;
  return pelton::cuda::emulator::syncthreads_vote(BarrierVote::kCount, predicate != 0, site);
}
inline int __syncthreads_and(int predicate, PELTON_SITE) {
  using pelton::cuda::emulator::BarrierVote;
  return pelton::cuda::emulator::syncthreads_vote(BarrierVote::kAnd, predicate != 0, site);
}
inline int __syncthreads_or(int predicate, PELTON_SITE) {
  using pelton::cuda::emulator::BarrierVote;
  return pelton::cuda::emulator::syncthreads_vote(BarrierVote::kOr, predicate != 0, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, PELTON_SITE) {
  pelton::cuda::emulator::syncwarp(mask, site);
}
inline void __threadfence(PELTON_SITE) {
  pelton::cuda::emulator::fence(site);
}
inline void __threadfence_block(PELTON_SITE) {
  pelton::cuda::emulator::fence(site);
}
inline void __threadfence_system(PELTON_SITE) {
  pelton::cuda::emulator::fence(site);
}
[[noreturn]] inline void __trap(PELTON_SITE) {
  pelton::cuda::emulator::trap(site);
}

namespace pelton::cuda::emulator {

template <class T>
T shuffle_value(unsigned mask, ShuffleMode mode, const T& value, int operand, int width,
                Site site) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, mode, bits, operand, width, site);
  T result;
  __builtin_memcpy(static_cast<void*>(&result), &bits, sizeof(T));
  return result;
}

}  // namespace pelton::cuda::emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, PELTON_SITE) {
  using pelton::cuda::emulator::ShuffleMode;
  return pelton::cuda::emulator::shuffle_value(mask, ShuffleMode::kIndex, value, source, width,
                                               site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, PELTON_SITE) {
  using pelton::cuda::emulator::ShuffleMode;
  return pelton::cuda::emulator::shuffle_value(mask, ShuffleMode::kUp, value,
                                               static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, PELTON_SITE) {
  using pelton::cuda::emulator::ShuffleMode;
  return pelton::cuda::emulator::shuffle_value(mask, ShuffleMode::kDown, value,
                                               static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize, PELTON_SITE) {
  using pelton::cuda::emulator::ShuffleMode;
  return pelton::cuda::emulator::shuffle_value(mask, ShuffleMode::kXor, value, lanes, width, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, PELTON_SITE) {
  return pelton::cuda::emulator::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, PELTON_SITE) {
  return pelton::cuda::emulator::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, PELTON_SITE) {
  return pelton::cuda::emulator::ballot(mask, predicate != 0, site) == mask;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, PELTON_SITE) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  return pelton::cuda::emulator::match_any(mask, bits, site);
}
inline unsigned __activemask() {
  return pelton::cuda::emulator::active_mask();
}

#define PELTON_REDUCE(name, reduction)                                                 \
  inline unsigned __reduce_##name##_sync(unsigned mask, unsigned value, PELTON_SITE) { \
    return pelton::cuda::emulator::reduce_unsigned(                                    \
        mask, pelton::cuda::emulator::Reduction::reduction, value, site);              \
  }                                                                                    \
  inline int __reduce_##name##_sync(unsigned mask, int value, PELTON_SITE) {           \
    return pelton::cuda::emulator::reduce_signed(                                      \
        mask, pelton::cuda::emulator::Reduction::reduction, value, site);              \
  }
PELTON_REDUCE(add, kAdd)
PELTON_REDUCE(min, kMin)
PELTON_REDUCE(max, kMax)
PELTON_REDUCE(and, kAnd)
PELTON_REDUCE(or, kOr)
PELTON_REDUCE(xor, kXor)
#undef PELTON_REDUCE

#define PELTON_ATOMIC(name, operation)                                                            \
  inline unsigned name(unsigned* word, unsigned value, PELTON_SITE) {                             \
    return pelton::cuda::emulator::atomic_unsigned(                                               \
        word, pelton::cuda::emulator::Atomic::operation, value, site);                            \
  }                                                                                               \
  inline int name(int* word, int value, PELTON_SITE) {                                            \
    return pelton::cuda::emulator::atomic_signed(word, pelton::cuda::emulator::Atomic::operation, \
                                                 value, site);                                    \
  }                                                                                               \
  inline unsigned long long name(unsigned long long* word, unsigned long long value,              \
                                 PELTON_SITE) {                                                   \
    return pelton::cuda::emulator::atomic_unsigned64(reinterpret_cast<uint64_t*>(word),           \
                                                     pelton::cuda::emulator::Atomic::operation,   \
                                                     value, site);                                \
  }
PELTON_ATOMIC(atomicAdd, kAdd)
PELTON_ATOMIC(atomicMin, kMin)
PELTON_ATOMIC(atomicMax, kMax)
PELTON_ATOMIC(atomicAnd, kAnd)
PELTON_ATOMIC(atomicOr, kOr)
PELTON_ATOMIC(atomicXor, kXor)
PELTON_ATOMIC(atomicExch, kExchange)
#undef PELTON_ATOMIC
inline float atomicAdd(float* word, float value, PELTON_SITE) {
  return pelton::cuda::emulator::atomic_add_float(word, value, site);
}
inline double atomicAdd(double* word, double value, PELTON_SITE) {
  return pelton::cuda::emulator::atomic_add_double(word, value, site);
}
inline unsigned atomicCAS(unsigned* word, unsigned expected, unsigned value, PELTON_SITE) {
  return pelton::cuda::emulator::atomic_compare_exchange(word, expected, value, site);
}
inline int atomicCAS(int* word, int expected, int value, PELTON_SITE) {
  return static_cast<int>(pelton::cuda::emulator::atomic_compare_exchange(
      reinterpret_cast<unsigned*>(word), static_cast<unsigned>(expected),
      static_cast<unsigned>(value), site));
}
inline unsigned long long atomicCAS(unsigned long long* word, unsigned long long expected,
                                    unsigned long long value, PELTON_SITE) {
  return pelton::cuda::emulator::atomic_compare_exchange64(reinterpret_cast<uint64_t*>(word),
                                                           expected, value, site);
}
// As on a card the increment wraps to zero after `limit`.
inline unsigned atomicInc(unsigned* word, unsigned limit, PELTON_SITE) {
  unsigned seen =
      pelton::cuda::emulator::atomic_unsigned(word, pelton::cuda::emulator::Atomic::kAdd, 0, site);
  for (;;) {
    const unsigned before = atomicCAS(word, seen, seen >= limit ? 0 : seen + 1, site);
    if (before == seen) return before;
    seen = before;
  }
}

namespace pelton::cuda::emulator {

// Needs a compiler that can clear padding: what stood there before may look like a pointer.
#ifdef __has_builtin
inline constexpr bool kFindsHostPointers = __has_builtin(__builtin_clear_padding);
#else
inline constexpr bool kFindsHostPointers = false;
#endif

template <class T>
const void* host_pointer_of(const T& argument) {
  T copy = argument;
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(&copy);
#endif
#endif
  return kFindsHostPointers ? host_pointer_in(&copy, sizeof(copy)) : nullptr;
}

}  // namespace pelton::cuda::emulator

namespace pelton::cuda {

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "one argument for each parameter");
  std::tuple<std::remove_cv_t<P>...> values(std::forward<A>(args)...);
  const void* host_pointer = std::apply(
      [](const auto&... value) {
        const void* found = nullptr;
        ((found = found != nullptr ? found : emulator::host_pointer_of(value)), ...);
        return found;
      },
      values);
  return emulator::launch_kernel(
      reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream,
      [kernel, values = std::move(values)] { std::apply(kernel, values); }, host_pointer);
}

template <class... P>
cudaError_t allow_shared(void (*kernel)(P...), size_t bytes) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace pelton::cuda
