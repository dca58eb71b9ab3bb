// Ends calls whose deadline passes while they wait for the tokenizer (after that the engine does).
// One thread of its own; thread-safe.
#pragma once

#include <compare>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "core/clock.h"

namespace pelton {

class DeadlineWatch {
 public:
  struct Ticket {
    TimePoint deadline;
    uint64_t number = 0;  // 0: watches nothing
    auto operator<=>(const Ticket&) const = default;
  };

  DeadlineWatch();
  ~DeadlineWatch();  // calls nothing any more
  DeadlineWatch(const DeadlineWatch&) = delete;
  DeadlineWatch& operator=(const DeadlineWatch&) = delete;

  // Calls `expired` once, on its own thread, after `deadline` (steady time).
  Ticket watch(TimePoint deadline, std::function<void()> expired);
  void forget(const Ticket& ticket);  // it may be running at this moment

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<Ticket, std::function<void()>> waiting_;
  uint64_t last_number_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace pelton
