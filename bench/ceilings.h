// What this machine can do at most, measured now: memory read bandwidth and float32 fused
// multiply-adds. Beside every figure stands the ceiling of the same run, for machines drift.
#pragma once

#include <vector>

#include "bench/stopwatch.h"

namespace pelton::bench {

struct Ceilings {
  int threads = 1;
  double read_gb_per_s = 0;  // 1e9 bytes; the best of several passes over 256 MiB a thread
  double fma_gflops = 0;     // 1e9 additions and multiplications, widest instruction set
};

// One entry for one thread and one for `max_threads`. Takes about half a second an entry.
std::vector<Ceilings> measure_ceilings(int max_threads, TimeBase base);

}  // namespace pelton::bench
