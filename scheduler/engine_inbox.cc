#include "scheduler/engine_inbox.h"

#include <utility>

namespace pelton {
namespace {

constexpr std::chrono::milliseconds kRetryAfter{1000};

}  // namespace

int64_t RateMeter::tick(TimePoint now) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() /
         (1000 / kBuckets);
}

void RateMeter::add(TimePoint now, int64_t count) {
  const size_t i = static_cast<size_t>(tick(now) % kBuckets);
  if (std::exchange(ticks_[i], tick(now)) != tick(now)) counts_[i] = 0;
  counts_[i] += count;
}

double RateMeter::per_second(TimePoint now) const {
  int64_t sum = 0;
  for (int i = 0; i < kBuckets; ++i) {
    const size_t at = static_cast<size_t>(i);
    if (tick(now) - ticks_[at] < kBuckets) sum += counts_[at];
  }
  return static_cast<double>(sum);
}

Status EngineInbox::submit(Request request, std::shared_ptr<OutputSink> sink) {
  const std::lock_guard lock(mutex_);
  if (!health_.ok()) return health_;
  if (draining_ || stopped_) {
    Status status = absl::UnavailableError("the server is shutting down");
    set_error_reason(status, "DRAINING");
    return status;
  }
  if (live_.contains(request.id)) return absl::AlreadyExistsError("request id in use");
  if (load_.waiting_requests + static_cast<int64_t>(mail_.submissions.size()) >= max_waiting_) {
    return overloaded("too many requests are waiting", kRetryAfter);
  }
  if (live_.empty()) last_step_.store(clock_->now(), std::memory_order_release);
  live_.insert(request.id);
  num_live_.store(live_.size(), std::memory_order_release);
  mail_.submissions.push_back({std::move(request), std::move(sink)});
  if (std::exchange(asleep_, false)) wake_.notify_one();
  return absl::OkStatus();
}

void EngineInbox::abort(RequestId id) {
  const std::lock_guard lock(mutex_);
  if (!live_.contains(id)) return;
  mail_.aborts.insert(id);
  if (std::exchange(asleep_, false)) wake_.notify_one();
}

void EngineInbox::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

void EngineInbox::end_all(Status status) {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  mail_.end_all = std::move(status);
  if (std::exchange(asleep_, false)) wake_.notify_one();
}

void EngineInbox::fail(Status status) {
  const std::lock_guard lock(mutex_);
  health_ = std::move(status);
}

void EngineInbox::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  wake_.notify_one();
}

bool EngineInbox::stopped() const {
  const std::lock_guard lock(mutex_);
  return stopped_;
}

EngineInbox::Mail EngineInbox::take() {
  const std::lock_guard lock(mutex_);
  // Until publish() says better, what was taken counts as waiting.
  load_.waiting_requests += static_cast<int64_t>(mail_.submissions.size());
  return std::exchange(mail_, {});
}

bool EngineInbox::wait() {
  std::unique_lock lock(mutex_);
  while (!stopped_ && mail_.submissions.empty() && mail_.aborts.empty() && mail_.end_all.ok()) {
    asleep_ = true;
    wake_.wait(lock);
  }
  asleep_ = false;
  return !stopped_;
}

void EngineInbox::publish(std::span<const RequestId> ended, const Load& load,
                          const EngineStats& stats) {
  const TimePoint now = clock_->now();
  const std::lock_guard lock(mutex_);
  for (const RequestId id : ended) live_.erase(id);
  rate_.add(now, stats.generation_tokens - stats_.generation_tokens);
  load_ = load;
  stats_ = stats;
  last_step_.store(now, std::memory_order_release);
  num_live_.store(live_.size(), std::memory_order_release);
}

TimePoint EngineInbox::heartbeat() const {
  return idle() ? clock_->now() : last_step_.load(std::memory_order_acquire);
}

Load EngineInbox::load() const {
  const TimePoint now = clock_->now();
  const std::lock_guard lock(mutex_);
  Load load = load_;
  load.waiting_requests += static_cast<int64_t>(mail_.submissions.size());
  load.generated_tokens_per_second = rate_.per_second(now);
  return load;
}

EngineStats EngineInbox::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

Status EngineInbox::health() const {
  const std::lock_guard lock(mutex_);
  return health_;
}

}  // namespace pelton
