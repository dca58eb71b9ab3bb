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

constexpr uint64_t kClosed = 0xFFFFFFFFU;  // in the low half of claim_: no job to take ranges of

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

void ThreadPool::run_job(Call call, void* body, int64_t count, int64_t grain) {
  const std::lock_guard<std::mutex> lock(one_job_);
  // All ranges of the last job are done. Closing the claim first makes the claim of a worker fail
  // that has read any of what follows.
  const uint64_t job = (epoch_.load(std::memory_order_relaxed) + uint64_t{1}) << 32;
  claim_.store(job | kClosed, std::memory_order_relaxed);
  call_.store(call, std::memory_order_release);
  body_.store(body, std::memory_order_release);
  count_.store(count, std::memory_order_release);
  grain_.store(grain, std::memory_order_release);
  done_.store(0, std::memory_order_relaxed);
  claim_.store(job, std::memory_order_release);
  epoch_.fetch_add(1);  // sequentially consistent, as is sleepers_: no worker sleeps through it
  if (sleepers_.load() > 0) epoch_.notify_all();
  take_ranges(0);
  const int64_t ranges = (count + grain - 1) / grain;
  const auto finished = [&] { return done_.load(std::memory_order_acquire) == ranges; };
  // A worker that does not come back soon has lost its core: give it ours.
  while (!spin_until(finished)) std::this_thread::yield();
}

void ThreadPool::worker_loop(int worker) {
  uint32_t seen = 0;
  while (!stop_.load()) {
    if (!spin_until([&] { return epoch_.load(std::memory_order_acquire) != seen; })) {
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    seen = epoch_.load(std::memory_order_acquire);
    take_ranges(worker);
  }
}

void ThreadPool::take_ranges(int worker) {
  for (;;) {
    uint64_t claim = claim_.load(std::memory_order_acquire);
    const Call call = call_.load(std::memory_order_acquire);
    void* const body = body_.load(std::memory_order_acquire);
    const int64_t count = count_.load(std::memory_order_acquire);
    const int64_t grain = grain_.load(std::memory_order_acquire);
    const auto range = static_cast<int64_t>(claim & kClosed);
    if (static_cast<uint64_t>(range) == kClosed || range * grain >= count) return;
    const int64_t begin = range * grain;
    // Fails where the range was taken, or where this is no longer the job that was read.
    if (!claim_.compare_exchange_strong(claim, claim + 1, std::memory_order_acq_rel)) continue;
    call(body, begin, begin + grain < count ? begin + grain : count, worker);
    done_.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace pelton::cpu
