// Everything that is PTX on a card, each beside its emulated twin: 16-byte accesses, asynchronous
// copies, matrix instructions, named barriers, fast math. Device code only.
#pragma once

#include "cuda/kernels/device.h"

#if PELTON_CUDA_EMULATED
#define PELTON_PLACE \
  , ::pelton::cuda::emulator::Site site = ::pelton::cuda::emulator::Site::current()
#define PELTON_ONLY_PLACE \
  ::pelton::cuda::emulator::Site site = ::pelton::cuda::emulator::Site::current()
#else
#define PELTON_PLACE
#define PELTON_ONLY_PLACE
#endif

namespace pelton::cuda {

// --- 16-byte accesses (the address must be a multiple of 16) ---

__device__ __forceinline__ uint4 load16(const void* source PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::check_aligned(source, 16, site);
#endif
  return *static_cast<const uint4*>(source);
}

__device__ __forceinline__ void store16(void* target, uint4 value PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::check_aligned(target, 16, site);
#endif
  *static_cast<uint4*>(target) = value;
}

// Read once and not kept in L1: weights that stream by. Read-only for the whole kernel.
__device__ __forceinline__ uint4 load16_streaming(const void* source PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::check_aligned(source, 16, site);
  return *static_cast<const uint4*>(source);
#else
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(source));
  return value;
#endif
}

// 8 and 4 bytes likewise.
__device__ __forceinline__ uint2 load8(const void* source PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::check_aligned(source, 8, site);
#endif
  return *static_cast<const uint2*>(source);
}

__device__ __forceinline__ void store8(void* target, uint2 value PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::check_aligned(target, 8, site);
#endif
  *static_cast<uint2*>(target) = value;
}

__device__ __forceinline__ uint2 load8_streaming(const void* source PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::check_aligned(source, 8, site);
  return *static_cast<const uint2*>(source);
#else
  uint2 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
               : "=r"(value.x), "=r"(value.y)
               : "l"(source));
  return value;
#endif
}

__device__ __forceinline__ uint32_t load4_streaming(const void* source PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::check_aligned(source, 4, site);
  return *static_cast<const uint32_t*>(source);
#else
  uint32_t value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];" : "=r"(value) : "l"(source));
  return value;
#endif
}

// --- two 16-bit elements in a register: a - b, rounded to nearest ---

__device__ __forceinline__ uint32_t sub_bf16x2(uint32_t a, uint32_t b) {
#if PELTON_CUDA_EMULATED
  const auto low = __float2bfloat16_rn(__uint_as_float(a << 16) - __uint_as_float(b << 16));
  const auto high =
      __float2bfloat16_rn(__uint_as_float(a & 0xFFFF0000U) - __uint_as_float(b & 0xFFFF0000U));
  return __bfloat16_as_ushort(low) | static_cast<uint32_t>(__bfloat16_as_ushort(high)) << 16;
#else
  uint32_t d;  // sm_80 has no sub: a * 1 + -b
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(0x3F803F80U), "r"(b ^ 0x80008000U));
  return d;
#endif
}

__device__ __forceinline__ uint32_t sub_f16x2(uint32_t a, uint32_t b) {
#if PELTON_CUDA_EMULATED
  const auto part = [](uint32_t x) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(x)));
  };
  const auto low = __float2half_rn(part(a) - part(b));
  const auto high = __float2half_rn(part(a >> 16) - part(b >> 16));
  return __half_as_ushort(low) | static_cast<uint32_t>(__half_as_ushort(high)) << 16;
#else
  uint32_t d;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
#endif
}

// --- asynchronous copies from global to shared memory ---

// 16 bytes; zeroes where not `valid` (the source is not read then, but must be a valid pointer
// value).
__device__ __forceinline__ void cp_async_16(void* shared, const void* global,
                                            bool valid = true PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::async_copy(shared, global, 16, valid, site);
#else
  const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global),
               "r"(bytes)
               : "memory");
#endif
}

// 4 bytes (8 by the same way with the bigger size): for rows that are not 16-byte multiples.
__device__ __forceinline__ void cp_async_4(void* shared, const void* global,
                                           bool valid = true PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::async_copy(shared, global, 4, valid, site);
#else
  const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(global), "r"(bytes)
               : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if PELTON_CUDA_EMULATED
  emulator::async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most N of this thread's newest groups are under way. Other threads see the data
// only after a barrier.
template <int N>
__device__ __forceinline__ void cp_async_wait(PELTON_ONLY_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::async_wait(N, site);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// --- ldmatrix: 8x8 matrices of 16-bit elements from shared memory ---
// Lane i gives the address of row i % 8 of matrix i / 8 (16 bytes, aligned to 16). Register j of a
// lane holds elements (row lane / 4, columns 2 * (lane % 4) and the next) of matrix j; with trans,
// of its transpose. PTX ISA, "ldmatrix".

#if PELTON_CUDA_EMULATED
#define PELTON_LDMATRIX(name, count, transposed, ptx, outputs, address)                   \
  __device__ __forceinline__ void name(uint32_t(&d)[count], const void* row,              \
                                       emulator::Site site = emulator::Site::current()) { \
    emulator::ldmatrix(d, count, transposed, row, site);                                  \
  }
#else
#define PELTON_UNWRAP(...) __VA_ARGS__
#define PELTON_LDMATRIX(name, count, transposed, ptx, outputs, address)                    \
  __device__ __forceinline__ void name(uint32_t(&d)[count], const void* row) {             \
    const unsigned source = static_cast<unsigned>(__cvta_generic_to_shared(row));          \
    asm volatile(ptx ", [" address "];" : PELTON_UNWRAP outputs : "r"(source) : "memory"); \
  }
#endif
#define PELTON_OUT1 ("=r"(d[0]))
#define PELTON_OUT2 ("=r"(d[0]), "=r"(d[1]))
#define PELTON_OUT4 ("=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]))
PELTON_LDMATRIX(ldmatrix_x1, 1, false, "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}", PELTON_OUT1,
                "%1")
PELTON_LDMATRIX(ldmatrix_x2, 2, false, "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}",
                PELTON_OUT2, "%2")
PELTON_LDMATRIX(ldmatrix_x4, 4, false, "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}",
                PELTON_OUT4, "%4")
PELTON_LDMATRIX(ldmatrix_x1_trans, 1, true, "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}",
                PELTON_OUT1, "%1")
PELTON_LDMATRIX(ldmatrix_x2_trans, 2, true,
                "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}", PELTON_OUT2, "%2")
PELTON_LDMATRIX(ldmatrix_x4_trans, 4, true,
                "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}", PELTON_OUT4,
                "%4")
#undef PELTON_LDMATRIX
#undef PELTON_OUT1
#undef PELTON_OUT2
#undef PELTON_OUT4

// --- mma: d += a * b over the whole warp; fragments as in the PTX ISA, "mma.sync" ---
// With g = lane / 4 and t = lane % 4, d holds (row g, cols 2t 2t+1), (row g + 8, the same).
// m16n8k16: a[0] (row g, k 2t 2t+1), a[1] (row g + 8), a[2] (row g, k + 8), a[3] (row g + 8, k +
// 8); b[0] (k 2t 2t+1, col g), b[1] (k + 8). m16n8k32: four bytes a register, k = 4t .. 4t+3, and +
// 16 where it says + 8 above.

template <class Element>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2] PELTON_PLACE) {
  constexpr bool kIsBf16 = std::is_same_v<Element, __nv_bfloat16>;
  static_assert(kIsBf16 || std::is_same_v<Element, __half>);
#if PELTON_CUDA_EMULATED
  if constexpr (kIsBf16) {
    emulator::mma_m16n8k16_bf16(d, a, b, site);
  } else {
    emulator::mma_m16n8k16_f16(d, a, b, site);
  }
#else
  if constexpr (kIsBf16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
}

__device__ __forceinline__ void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2] PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::mma_m16n8k32_s8(d, a, b, site);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// fp8 matrix instructions exist from sm_89 on. Where the code is built for less, calling this
// traps: the host picks a kernel by the card's compute capability.
__device__ __forceinline__ void mma_m16n8k32_e4m3(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2] PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::mma_m16n8k32_e4m3(d, a, b, site);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
  (void)d, (void)a, (void)b;
  __trap();
#else
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// --- named barriers: ids 1 to 15, `threads` a multiple of 32 ---

__device__ __forceinline__ void named_barrier_sync(int id, int threads PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::named_barrier_sync(id, threads, site);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// Counts this thread in without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads PELTON_PLACE) {
#if PELTON_CUDA_EMULATED
  emulator::named_barrier_arrive(id, threads, site);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// --- fast math: a few units in the last place off ---

__device__ __forceinline__ float exp2_approx(float x) {
#if PELTON_CUDA_EMULATED
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

__device__ __forceinline__ float log2_approx(float x) {
#if PELTON_CUDA_EMULATED
  return log2f(x);
#else
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

__device__ __forceinline__ float reciprocal_approx(float x) {
#if PELTON_CUDA_EMULATED
  return 1.0f / x;
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

__device__ __forceinline__ float rsqrt_approx(float x) {
#if PELTON_CUDA_EMULATED
  return 1.0f / sqrtf(x);
#else
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

__device__ __forceinline__ float tanh_approx(float x) {
#if PELTON_CUDA_EMULATED
  return tanhf(x);
#else
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// --- packed bf16: a * b + c in both halves, rounded once (sm_80 on; no packed multiply below
// sm_90)

__device__ __forceinline__ uint32_t bf16x2_fma(uint32_t a, uint32_t b, uint32_t c) {
#if PELTON_CUDA_EMULATED
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    // A bf16 is the high half of a float. The product is exact in float64; so is every sum whose
    // terms lie within 2^29 of each other, which is what this is used for.
    const auto wide = [shift](uint32_t pair) {
      return static_cast<double>(__uint_as_float(((pair >> shift) & 0xffffU) << 16));
    };
    const float sum = static_cast<float>(wide(a) * wide(b) + wide(c));
    result |= static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(sum))) << shift;
  }
  return result;
#else
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
#endif
}

// --- programmatic dependent launch (sm_90 on; nothing below) ---

// From here on the next kernel of the stream may start.
__device__ __forceinline__ void launch_dependents() {
#if !PELTON_CUDA_EMULATED && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Before this nothing that the previous kernel wrote may be touched.
__device__ __forceinline__ void wait_for_predecessor() {
#if !PELTON_CUDA_EMULATED && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace pelton::cuda
