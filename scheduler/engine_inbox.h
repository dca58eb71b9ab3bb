// What crosses threads in an engine: submissions and aborts on their way in, load, statistics and
// liveness on their way out. All of it thread-safe; the engine thread calls take() and publish().
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_set>
#include <vector>

#include "core/clock.h"
#include "core/load.h"
#include "core/request.h"
#include "core/status.h"
#include "scheduler/engine.h"

namespace pelton {

// Tokens of the last second, in tenths.
class RateMeter {
 public:
  void add(TimePoint now, int64_t count);
  double per_second(TimePoint now) const;

 private:
  static constexpr int kBuckets = 10;
  static int64_t tick(TimePoint now);
  std::array<int64_t, kBuckets> counts_{};
  std::array<int64_t, kBuckets> ticks_{};
};

class EngineInbox {
 public:
  struct Submission {
    Request request;
    std::shared_ptr<OutputSink> sink;
  };
  struct Mail {
    std::vector<Submission> submissions;
    std::unordered_set<RequestId> aborts;
    Status end_all;  // not OK: everything ends with it, what comes with this mail included
  };

  EngineInbox(int max_waiting, const Clock* clock) : max_waiting_(max_waiting), clock_(clock) {}

  // UNAVAILABLE when draining or failed, RESOURCE_EXHAUSTED when full, ALREADY_EXISTS.
  Status submit(Request request, std::shared_ptr<OutputSink> sink);
  void abort(RequestId id);
  void drain();
  void end_all(Status status);  // drains as well
  void fail(Status status);
  void stop();
  bool stopped() const;

  // All that came since, in order of arrival.
  Mail take();
  // Sleeps until there is something to take. False once stopped.
  bool wait();

  // After a step: `ended` are no longer live; what readers see from now on.
  void publish(std::span<const RequestId> ended, const Load& load, const EngineStats& stats);

  bool idle() const { return num_live_.load(std::memory_order_acquire) == 0; }
  TimePoint heartbeat() const;
  Load load() const;
  EngineStats stats() const;
  Status health() const;

 private:
  const int max_waiting_;
  const Clock* const clock_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Mail mail_;
  std::unordered_set<RequestId> live_;  // submitted and not ended
  bool asleep_ = false;
  bool draining_ = false;
  bool stopped_ = false;
  Status health_;
  Load load_;
  EngineStats stats_;
  RateMeter rate_;
  // Read by liveness checks, which must not wait for anything.
  std::atomic<size_t> num_live_{0};
  std::atomic<TimePoint> last_step_{TimePoint{}};
};

}  // namespace pelton
