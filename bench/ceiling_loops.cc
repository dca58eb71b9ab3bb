#include "bench/ceiling_loops.h"

#include <atomic>
#include <cstring>

#include "cpu/machine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pelton::bench {
namespace {

// Keeps a value from being optimised away.
std::atomic<uint64_t> g_sink{0};
template <typename Vector, int kCount>
void keep(const Vector (&values)[kCount]) {
  for (const Vector& value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    g_sink += bits;
  }
}

void read_all_scalar(const uint8_t* data, int64_t bytes) {
  uint64_t sum = 0;
  for (int64_t at = 0; at < bytes; at += 8) sum ^= *reinterpret_cast<const uint64_t*>(data + at);
  g_sink += sum;
}

// Multiplies and adds without vectors of ours: what a plain build of the kernels could reach.
double fma_scalar() {
  constexpr int kPlain = 16;
  constexpr int64_t kSteps = 2'000'000;
  float acc[kPlain];
  for (int i = 0; i < kPlain; ++i) acc[i] = static_cast<float>(i);
  for (int64_t step = 0; step < kSteps; ++step) {
    for (float& a : acc) a = a * 0.999F + 1e-3F;
  }
  keep(acc);
  return 2.0 * kPlain * kSteps;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void read_all_avx2(const uint8_t* data, int64_t bytes) {
  __m256i sum[4] = {};
  for (int64_t at = 0; at < bytes; at += 128) {
    __builtin_prefetch(data + at + 2048);
    __builtin_prefetch(data + at + 2112);
    for (int i = 0; i < 4; ++i) {
      const auto* p = reinterpret_cast<const __m256i*>(data + at + 32 * i);
      sum[i] = _mm256_xor_si256(sum[i], _mm256_load_si256(p));
    }
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
  g_sink += static_cast<uint64_t>(_mm256_extract_epi64(all, 0));
}

constexpr int kChains = 16;  // enough to hide the latency of two units
constexpr int kNarrow = 12;  // of sixteen registers
constexpr int64_t kSteps = 2'000'000;

__attribute__((target("avx512f"))) double fma_avx512() {
  __m512 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999F), b = _mm512_set1_ps(1e-3F);
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_fmadd_ps(acc[i], a, b);
  }
  keep(acc);
  return 2.0 * 16 * kChains * kSteps;
}

__attribute__((target("avx2,fma"))) double fma_avx2() {
  __m256 acc[kNarrow];
  for (int i = 0; i < kNarrow; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999F), b = _mm256_set1_ps(1e-3F);
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kNarrow; ++i) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
  }
  keep(acc);
  return 2.0 * 8 * kNarrow * kSteps;
}

__attribute__((target("avx512f,avx512bf16"))) double bf16_avx512() {
  __m512 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  const auto a = (__m512bh)_mm512_set1_epi16(0x3C23);  // about 0.01
  const auto b = (__m512bh)_mm512_set1_epi16(0x3C24);
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_dpbf16_ps(acc[i], a, b);
  }
  keep(acc);
  return 2.0 * 32 * kChains * kSteps;
}

__attribute__((target("avx512f,avx512vnni"))) double int8_vnni() {
  __m512i acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(7), b = _mm512_set1_epi8(-3);
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
  }
  keep(acc);
  return 2.0 * 64 * kChains * kSteps;
}

// The empty statements hide from the compiler that all products are the same.
template <int kProducts>
__attribute__((target("avx512f,avx512bw"))) double int8_avx512() {
  __m512i acc[kNarrow];
  for (int i = 0; i < kNarrow; ++i) acc[i] = _mm512_set1_epi32(i);
  __m512i a = _mm512_set1_epi8(7);
  const __m512i b = _mm512_set1_epi8(-3), ones = _mm512_set1_epi16(1);
  for (int64_t step = 0; step < kSteps / kProducts; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kNarrow; ++i) {
      asm volatile("" : "+v"(a));
      __m512i products = _mm512_maddubs_epi16(a, b);
      for (int more = 1; more < kProducts; ++more) {
        asm volatile("" : "+v"(a));
        products = _mm512_add_epi16(products, _mm512_maddubs_epi16(a, b));
      }
      acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(products, ones));
    }
  }
  keep(acc);
  return 2.0 * 64 * kNarrow * kProducts * (kSteps / kProducts);
}

template <int kProducts>
__attribute__((target("avx2"))) double int8_avx2() {
  __m256i acc[kNarrow];
  for (int i = 0; i < kNarrow; ++i) acc[i] = _mm256_set1_epi32(i);
  __m256i a = _mm256_set1_epi8(7);
  const __m256i b = _mm256_set1_epi8(-3), ones = _mm256_set1_epi16(1);
  for (int64_t step = 0; step < kSteps / kProducts; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kNarrow; ++i) {
      asm volatile("" : "+x"(a));
      __m256i products = _mm256_maddubs_epi16(a, b);
      for (int more = 1; more < kProducts; ++more) {
        asm volatile("" : "+x"(a));
        products = _mm256_add_epi16(products, _mm256_maddubs_epi16(a, b));
      }
      acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(products, ones));
    }
  }
  keep(acc);
  return 2.0 * 32 * kNarrow * kProducts * (kSteps / kProducts);
}
#endif

}  // namespace

#if defined(__x86_64__)
RateLoops rate_loops(CpuIsa isa) {
  const bool wide = isa == CpuIsa::kAuto || isa == CpuIsa::kAvx512;
  if (wide && cpu::has_avx512()) {
    RateLoops loops = {fma_avx512, fma_avx512, int8_avx512<1>, int8_avx512<2>};
    if (cpu::has_avx512_bf16()) loops.bf16 = bf16_avx512;
    if (cpu::has_avx512_vnni()) loops.int8 = loops.int8_paired = int8_vnni;
    return loops;
  }
  if (isa != CpuIsa::kScalar && cpu::has_avx2()) {
    return {fma_avx2, fma_avx2, int8_avx2<1>, int8_avx2<2>};
  }
  return {fma_scalar, fma_scalar, fma_scalar, fma_scalar};
}
void read_all(const uint8_t* data, int64_t bytes) {
  cpu::has_avx2() ? read_all_avx2(data, bytes) : read_all_scalar(data, bytes);
}
#else
RateLoops rate_loops(CpuIsa) {
  return {fma_scalar, fma_scalar, fma_scalar, fma_scalar};
}
void read_all(const uint8_t* data, int64_t bytes) {
  read_all_scalar(data, bytes);
}
#endif

}  // namespace pelton::bench
