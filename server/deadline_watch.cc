#include "server/deadline_watch.h"

#include <utility>

namespace pelton {

DeadlineWatch::DeadlineWatch() : thread_([this] { run(); }) {}

DeadlineWatch::~DeadlineWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

DeadlineWatch::Ticket DeadlineWatch::watch(TimePoint deadline, std::function<void()> expired) {
  Ticket ticket{deadline};
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    ticket.number = ++last_number_;
    waiting_.emplace(ticket, std::move(expired));
    first = waiting_.begin()->first == ticket;
  }
  if (first) wake_.notify_one();
  return ticket;
}

void DeadlineWatch::forget(const Ticket& ticket) {
  std::function<void()> dropped;  // destroyed after the lock is let go
  const std::lock_guard lock(mutex_);
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end()) return;
  dropped = std::move(found->second);
  waiting_.erase(found);
}

void DeadlineWatch::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (waiting_.empty()) {
      wake_.wait(lock);
      continue;
    }
    const TimePoint next = waiting_.begin()->first.deadline;
    if (std::chrono::steady_clock::now() < next) {
      wake_.wait_until(lock, next);
      continue;
    }
    auto entry = waiting_.extract(waiting_.begin());
    lock.unlock();
    entry.mapped()();
    entry = {};
    lock.lock();
  }
}

}  // namespace pelton
