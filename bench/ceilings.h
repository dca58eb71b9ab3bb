// What this machine can do at most, measured now: memory read bandwidth and multiply-adds by number
// format. Beside every figure stands the ceiling of the same run, for machines drift.
#pragma once

#include <vector>

#include "bench/stopwatch.h"
#include "cpu/cpu_backend.h"

namespace pelton::bench {

// Rates in 1e9 additions and multiplications a second, of the instruction set that was asked for.
struct Ceilings {
  int threads = 1;
  double read_gb_per_s = 0;     // 1e9 bytes; the best of several passes over 256 MiB a thread
  double fma_gflops = 0;        // fp32
  double bf16_gflops = 0;       // fp32 sums of bf16 products; the fp32 rate where no unit does that
  double int8_gops = 0;         // int32 sums of int8 products
  double int8_paired_gops = 0;  // two products added in int16 first: what four-bit weights allow
};

// One entry for one thread and one for `max_threads`. Takes about a second an entry.
std::vector<Ceilings> measure_ceilings(int max_threads, TimeBase base, CpuIsa isa = CpuIsa::kAuto);

}  // namespace pelton::bench
