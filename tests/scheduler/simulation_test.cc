#include "tests/scheduler/simulation.h"

#include <cstdlib>

#include "tests/support/catch.h"

namespace pelton {
namespace {

// Traces of the default run; one thread and no raw memory, so few are enough under sanitizers.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kTraces = 300;
#else
constexpr uint64_t kTraces = 3000;
#endif

void run_seeds(uint64_t first, uint64_t count) {
  SimulationResult sum;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const SimulationResult result = simulate(seed);
    INFO("seed " << seed);
    if (!result.failure.empty()) FAIL(result.failure);
    sum.steps += result.steps;
    sum.sequences += result.sequences;
    sum.preemptions += result.preemptions;
    sum.most_preemptions = std::max(sum.most_preemptions, result.most_preemptions);
    sum.most_bypassed = std::max(sum.most_bypassed, result.most_bypassed);
    sum.hits += result.hits;
    sum.copies += result.copies;
    sum.drawn += result.drawn;
  }
  INFO("steps " << sum.steps << ", sequences " << sum.sequences << ", preemptions "
                << sum.preemptions << ", most of one " << sum.most_preemptions << ", most bypassed "
                << sum.most_bypassed << ", tokens hit " << sum.hits << ", blocks copied "
                << sum.copies << ", tokens ahead " << sum.drawn);
  // The traces reach what they are for.
  CHECK(sum.preemptions > static_cast<int64_t>(count));
  CHECK(sum.most_preemptions == 4);
  CHECK(sum.most_bypassed > 5);
  CHECK(sum.hits > static_cast<int64_t>(count));
  CHECK(sum.copies > static_cast<int64_t>(count) / 2);
  CHECK(sum.drawn > static_cast<int64_t>(count) * 10);
}

}  // namespace

TEST_CASE("the scheduler keeps its invariants at each step of thousands of random traces") {
  run_seeds(1, kTraces);
}

TEST_CASE("a simulation seed gives the same trace each time") {
  for (uint64_t seed : {1, 2, 3}) {
    CHECK(simulate(seed).trace_hash == simulate(seed).trace_hash);
  }
  CHECK(simulate(1).trace_hash != simulate(2).trace_hash);
}

// PELTON_SIMULATION_SEEDS sets another number of traces, PELTON_SIMULATION_FIRST another start.
TEST_CASE("the scheduler keeps its invariants in a hundred thousand random traces", "[.][long]") {
  const char* seeds = std::getenv("PELTON_SIMULATION_SEEDS");
  const char* first = std::getenv("PELTON_SIMULATION_FIRST");
  run_seeds(first != nullptr ? std::strtoull(first, nullptr, 10) : 1000000,
            seeds != nullptr ? std::strtoull(seeds, nullptr, 10) : 100000);
}

}  // namespace pelton
