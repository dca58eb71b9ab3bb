// Time that moves only when a test says so. Thread-safe.
#pragma once

#include <atomic>

#include "core/clock.h"

namespace pelton {

class FakeClock final : public Clock {
 public:
  TimePoint now() const override { return now_.load(); }
  void advance(Duration by) { now_.store(now_.load() + by); }

 private:
  std::atomic<TimePoint> now_{TimePoint(std::chrono::hours(1))};
};

}  // namespace pelton
