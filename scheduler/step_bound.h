// How long the step at hand may take, judged by those before it. begin() and end() are the engine
// thread's, allowance() any thread's.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/clock.h"
#include "scheduler/scheduler.h"

namespace pelton {

// What a step computes, in tokens; one that looks far back counts more, as attention does.
inline int64_t step_work(const StepPlan& plan) {
  int64_t work = 0;
  for (const PlannedRun& run : plan) {
    work += run.count + int64_t{run.count} * (run.first + run.count) / 1024;
  }
  return work;
}

class StepBound {
 public:
  void begin(int64_t work) { work_.store(work, std::memory_order_relaxed); }
  void end(Duration took) {
    const int64_t work = work_.load(std::memory_order_relaxed);
    if (work > largest_work_) largest_work_.store(work, std::memory_order_relaxed);
    if (took > longest_.load(std::memory_order_relaxed)) {
      longest_.store(took, std::memory_order_relaxed);
    }
  }
  // Three times the longest step so far, more where this one is larger than any of them. No end of
  // it before the first.
  Duration allowance() const {
    const int64_t largest = largest_work_.load(std::memory_order_relaxed);
    if (largest == 0) return Duration::max();
    const int64_t work = work_.load(std::memory_order_relaxed);
    const double scale = std::max(1.0, static_cast<double>(work) / static_cast<double>(largest));
    const auto longest = longest_.load(std::memory_order_relaxed);
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(longest) * 3.0 *
                                                scale);
  }

 private:
  std::atomic<int64_t> work_{0};
  std::atomic<int64_t> largest_work_{0};
  std::atomic<Duration> longest_{Duration::zero()};
};

}  // namespace pelton
