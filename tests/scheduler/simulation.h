// Drives a Scheduler alone through one random trace: arrivals, aborts, deadlines, forks, cache
// pressure, shared prefixes, priorities, window groups. Everything follows from the seed.
#pragma once

#include <cstdint>
#include <string>

namespace pelton {

struct SimulationResult {
  std::string failure;  // the first invariant that broke, or empty
  uint64_t trace_hash = 0;
  int64_t steps = 0;
  int64_t sequences = 0;
  int64_t preemptions = 0;
  int64_t most_preemptions = 0;  // of one sequence
  int64_t most_bypassed = 0;
  int64_t hits = 0;
  int64_t copies = 0;
  int64_t drawn = 0;  // tokens that were scheduled before they were known
};

SimulationResult simulate(uint64_t seed);

}  // namespace pelton
