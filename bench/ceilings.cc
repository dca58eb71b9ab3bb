#include "bench/ceilings.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "bench/ceiling_loops.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

namespace pelton::bench {
namespace {

constexpr int64_t kBytesPerThread = int64_t{256} << 20;
constexpr int kPasses = 8;

// fn(i) on each thread; the best of several passes.
template <typename Fn>
double best_seconds(cpu::ThreadPool& pool, TimeBase base, Fn fn) {
  double best = 1e18;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch watch(base);
    pool.run(pool.threads(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) fn(i);
    });
    best = std::min(best, watch.seconds());
  }
  return best;
}

double rate(cpu::ThreadPool& pool, TimeBase base, double (*loop)()) {
  std::atomic<int64_t> operations{0};
  const double seconds =
      best_seconds(pool, base, [&](int64_t) { operations += static_cast<int64_t>(loop()); });
  return 1e-9 * static_cast<double>(operations.load() / kPasses) / seconds;
}

}  // namespace

std::vector<Ceilings> measure_ceilings(int max_threads, TimeBase base, CpuIsa isa) {
  const RateLoops loops = rate_loops(isa);
  std::vector<Ceilings> out;
  for (int threads : {1, max_threads}) {
    if (!out.empty() && threads == out.back().threads) continue;
    cpu::ThreadPool pool(threads);
    Ceilings ceilings;
    ceilings.threads = threads;
    auto memory = cpu::Mapping::create(threads * kBytesPerThread);
    if (!memory.ok()) return out;
    const auto part = [&](int64_t i) { return (*memory)->data() + i * kBytesPerThread; };
    pool.run(threads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) std::fill_n(part(i), kBytesPerThread, uint8_t{1});
    });
    const double seconds =
        best_seconds(pool, base, [&](int64_t i) { read_all(part(i), kBytesPerThread); });
    ceilings.read_gb_per_s = 1e-9 * static_cast<double>(threads * kBytesPerThread) / seconds;
    ceilings.fma_gflops = rate(pool, base, loops.fp32);
    const auto unless_same = [&](double (*loop)(), double (*known)(), double known_rate) {
      return loop == known ? known_rate : rate(pool, base, loop);
    };
    ceilings.bf16_gflops = unless_same(loops.bf16, loops.fp32, ceilings.fma_gflops);
    ceilings.int8_gops = unless_same(loops.int8, loops.fp32, ceilings.fma_gflops);
    ceilings.int8_paired_gops = unless_same(loops.int8_paired, loops.int8, ceilings.int8_gops);
    out.push_back(ceilings);
  }
  return out;
}

}  // namespace pelton::bench
