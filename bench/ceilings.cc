#include "bench/ceilings.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cpu/machine.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pelton::bench {
namespace {

constexpr int64_t kBytesPerThread = int64_t{256} << 20;
constexpr int kPasses = 8;

// Keeps a value from being optimised away.
std::atomic<uint64_t> g_sink{0};

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
  for (const float a : acc) g_sink += static_cast<uint64_t>(a);
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
constexpr int64_t kFmaSteps = 2'000'000;

__attribute__((target("avx512f"))) double fma_avx512() {
  __m512 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999F), b = _mm512_set1_ps(1e-3F);
  for (int64_t step = 0; step < kFmaSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_fmadd_ps(acc[i], a, b);
  }
  float lanes[16];
  for (const __m512& v : acc) {
    _mm512_storeu_ps(lanes, v);
    g_sink += static_cast<uint64_t>(lanes[0]);
  }
  return 2.0 * 16 * kChains * kFmaSteps;
}

__attribute__((target("avx2,fma"))) double fma_avx2() {
  constexpr int kNarrow = 12;  // of sixteen registers
  __m256 acc[kNarrow];
  for (int i = 0; i < kNarrow; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999F), b = _mm256_set1_ps(1e-3F);
  for (int64_t step = 0; step < kFmaSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kNarrow; ++i) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
  }
  float lanes[8];
  for (const __m256& v : acc) {
    _mm256_storeu_ps(lanes, v);
    g_sink += static_cast<uint64_t>(lanes[0]);
  }
  return 2.0 * 8 * kNarrow * kFmaSteps;
}

void read_all(const uint8_t* data, int64_t bytes) {
  cpu::has_avx2() ? read_all_avx2(data, bytes) : read_all_scalar(data, bytes);
}
double fma_work() {
  if (cpu::has_avx512()) return fma_avx512();
  return cpu::has_avx2() ? fma_avx2() : fma_scalar();
}
#else
void read_all(const uint8_t* data, int64_t bytes) {
  read_all_scalar(data, bytes);
}
double fma_work() {
  return fma_scalar();
}
#endif

}  // namespace

std::vector<Ceilings> measure_ceilings(int max_threads, TimeBase base) {
  std::vector<Ceilings> out;
  for (int threads : {1, max_threads}) {
    if (!out.empty() && threads == out.back().threads) continue;
    cpu::ThreadPool pool(threads);
    Ceilings ceilings;
    ceilings.threads = threads;
    auto memory = cpu::Mapping::create(threads * kBytesPerThread);
    if (!memory.ok()) return out;
    const auto each_thread = [&](auto fn) {
      pool.run(threads, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) fn((*memory)->data() + i * kBytesPerThread);
      });
    };
    each_thread([](uint8_t* part) { std::fill_n(part, kBytesPerThread, uint8_t{1}); });
    for (int pass = 0; pass < kPasses; ++pass) {
      const Stopwatch watch(base);
      each_thread([](const uint8_t* part) { read_all(part, kBytesPerThread); });
      ceilings.read_gb_per_s =
          std::max(ceilings.read_gb_per_s,
                   1e-9 * static_cast<double>(threads * kBytesPerThread) / watch.seconds());
    }
    for (int pass = 0; pass < kPasses; ++pass) {
      std::atomic<int64_t> operations{0};
      const Stopwatch watch(base);
      each_thread([&](const uint8_t*) { operations += static_cast<int64_t>(fma_work()); });
      ceilings.fma_gflops = std::max(
          ceilings.fma_gflops, 1e-9 * static_cast<double>(operations.load()) / watch.seconds());
    }
    out.push_back(ceilings);
  }
  return out;
}

}  // namespace pelton::bench
