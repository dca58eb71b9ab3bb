#include "cpu/thread_pool.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pelton::cpu {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

using SpinClock = std::chrono::steady_clock;
// Longer than the gaps between a step's ops, shorter than what an idle server should burn.
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr int kPausesPerLook = 64;

// Spins until done() or until kSpin has passed; false: it passed.
template <typename Done>
bool spin_until(Done done) {
  const SpinClock::time_point deadline = SpinClock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (done()) return true;
      pause_briefly();
    }
  } while (SpinClock::now() < deadline);
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int worker = 1; worker < threads; ++worker) {
    workers_.emplace_back([this, worker] { worker_loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_job(const Job& job) {
  const std::lock_guard<std::mutex> lock(one_job_);
  job_ = job;
  next_.store(0, std::memory_order_relaxed);
  working_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1);  // sequentially consistent, as is sleepers_: no worker sleeps through it
  if (sleepers_.load() > 0) epoch_.notify_all();
  take_ranges(0);
  const auto finished = [this] { return working_.load(std::memory_order_acquire) == 0; };
  // A worker that does not come back soon has lost its core: give it ours.
  while (!spin_until(finished)) std::this_thread::yield();
}

void ThreadPool::worker_loop(int worker) {
  uint32_t seen = 0;
  for (;;) {
    if (!spin_until([&] { return epoch_.load(std::memory_order_acquire) != seen; })) {
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    // Every epoch waits for every worker, so none is skipped.
    ++seen;
    if (stop_.load()) return;
    take_ranges(worker);
    working_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

void ThreadPool::take_ranges(int worker) {
  for (;;) {
    const int64_t begin = next_.fetch_add(job_.grain, std::memory_order_relaxed);
    if (begin >= job_.count) return;
    const int64_t end = begin + job_.grain < job_.count ? begin + job_.grain : job_.count;
    job_.call(job_.body, begin, end, worker);
  }
}

}  // namespace pelton::cpu
