#include "cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
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

constexpr uint64_t kMaxShare = 0xFFFF;  // ranges

uint64_t claim_word(uint32_t epoch, uint64_t left, uint64_t taken) {
  return uint64_t{epoch} << 32 | left << 16 | taken;
}

uint32_t epoch_of(uint64_t claim) {
  return static_cast<uint32_t>(claim >> 32);
}

void stay_on(int cpu) {
#if defined(__linux__)
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(cpu, &mask);
  pthread_setaffinity_np(pthread_self(), sizeof(mask), &mask);  // refused: it runs anywhere
#else
  (void)cpu;
#endif
}

using SpinClock = std::chrono::steady_clock;
// Longer than the gaps between a step's ops, shorter than what an idle server should burn.
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr int kPausesPerLook = 64;
constexpr int kLinesPerLook = 8;

}  // namespace

// A worker's wait for the next phase. It spends it fetching what comes after the job, so that the
// memory is not idle while the cores wait for each other.
class ThreadPool::Waiter {
 public:
  explicit Waiter(const Share& share) : share_(share) {}

  // Spins until done() or until kSpin has passed; false: it passed.
  template <typename Done>
  bool spin_until(Done done) {
    const uint8_t* ahead = share_.ahead.load(std::memory_order_relaxed);
    if (ahead != ahead_) {
      ahead_ = ahead;
      fetched_ = 0;
    }
    // Of another phase than the start, maybe: a fetch too many or too few.
    const int lines = ahead_ != nullptr ? share_.ahead_lines.load(std::memory_order_relaxed) : 0;
    while (fetched_ < lines) {
      if (done()) return true;
      for (int i = 0; i < kLinesPerLook; ++i, ++fetched_) {
        __builtin_prefetch(ahead_ + int64_t{64} * fetched_, 0, 2);
      }
    }
    const SpinClock::time_point deadline = SpinClock::now() + kSpin;
    do {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (done()) return true;
        pause_briefly();
      }
    } while (SpinClock::now() < deadline);
    return false;
  }

 private:
  const Share& share_;
  const uint8_t* ahead_ = nullptr;
  int fetched_ = 0;  // lines
};

ThreadPool::ThreadPool(int threads, std::vector<int> cpus)
    : cpus_(std::move(cpus)), shares_(static_cast<size_t>(threads)) {
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

void ThreadPool::pin_caller() const {
  if (!cpus_.empty()) stay_on(cpus_[0]);
}

void ThreadPool::run_phases(const Phase* phases, int count, const Ahead* ahead) {
  if (workers_.empty()) {
    for (const Phase* p = phases; p < phases + count; ++p) {
      if (p->count > 0) p->call(p->body, 0, p->count, 0);
    }
    return;
  }
  const std::lock_guard<std::mutex> lock(one_job_);
  phases_ = phases;
  num_phases_ = count;
  ahead_ = ahead;
  Share& mine = shares_[0];
  mine.finished.store(false, std::memory_order_relaxed);
  uint32_t seen = epoch_of(mine.claim.load(std::memory_order_relaxed));
  const uint32_t before = seen;
  Waiter waiter(mine);
  begin_phase(0, 0);
  while (!mine.finished.load(std::memory_order_acquire)) {
    seen = epoch_of(mine.claim.load(std::memory_order_acquire));
    take_ranges(0);
    const auto changed = [&] {
      return mine.finished.load(std::memory_order_acquire) ||
             epoch_of(mine.claim.load(std::memory_order_acquire)) != seen;
    };
    // A worker that does not come back soon has lost its core: give it ours.
    while (!waiter.spin_until(changed)) std::this_thread::yield();
  }
  if (epoch_of(mine.claim.load(std::memory_order_relaxed)) != before) ++jobs_;
}

// Deals out the next phase of more than one range; the small ones on the way are done at once.
void ThreadPool::begin_phase(int index, int worker) {
  for (; index < num_phases_; ++index) {
    const Phase& phase = phases_[index];
    if (phase.count > phase.grain) {
      phase_ = index;
      return publish(phase);
    }
    if (phase.count > 0) phase.call(phase.body, 0, phase.count, worker);
  }
  shares_[0].finished.store(true, std::memory_order_release);
}

void ThreadPool::publish(const Phase& phase) {
  const int64_t most = static_cast<int64_t>(kMaxShare) * threads();
  const int64_t grain = std::max(phase.grain, (phase.count + most - 1) / most);
  const int64_t ranges = (phase.count + grain - 1) / grain;
  // All ranges of the last phase are done, so that every share is empty until its new claim. Who
  // still looks at one finds the epoch of its claim gone.
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  done_.store(0, std::memory_order_relaxed);
  for (int w = 0; w < threads(); ++w) {
    Share& share = shares_[w];
    share.call.store(phase.call, std::memory_order_release);
    share.body.store(phase.body, std::memory_order_release);
    share.count.store(phase.count, std::memory_order_release);
    share.grain.store(grain, std::memory_order_release);
    const Ahead ahead = ahead_ != nullptr ? ahead_[w] : Ahead();
    share.ahead.store(ahead.begin, std::memory_order_relaxed);
    share.ahead_lines.store(ahead.lines, std::memory_order_relaxed);
    const int64_t size = share_begin(ranges, w + 1) - share_begin(ranges, w);
    share.claim.store(claim_word(epoch, static_cast<uint64_t>(size), 0), std::memory_order_release);
  }
  epoch_.store(epoch);  // sequentially consistent, as is sleepers_: no worker sleeps through it
  if (sleepers_.load() > 0) epoch_.notify_all();
}

void ThreadPool::worker_loop(int worker) {
  if (!cpus_.empty()) stay_on(cpus_[static_cast<size_t>(worker) % cpus_.size()]);
  const Share& mine = shares_[worker];
  Waiter waiter(mine);
  uint32_t seen = 0;
  while (!stop_.load()) {
    const auto changed = [&] {
      return epoch_of(mine.claim.load(std::memory_order_acquire)) != seen;
    };
    if (!waiter.spin_until(changed)) {
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    seen = epoch_of(mine.claim.load(std::memory_order_acquire));
    take_ranges(worker);
  }
}

// Its own share first, then what the others have not begun.
void ThreadPool::take_ranges(int worker) {
  for (int i = 0; i < threads(); ++i) {
    const int owner = (worker + i) % threads();
    while (take_from(owner, worker)) {
    }
  }
}

bool ThreadPool::take_from(int owner, int worker) {
  Share& share = shares_[owner];
  uint64_t seen = share.claim.load(std::memory_order_acquire);
  const Call call = share.call.load(std::memory_order_acquire);
  void* const body = share.body.load(std::memory_order_acquire);
  const int64_t count = share.count.load(std::memory_order_acquire);
  const int64_t grain = share.grain.load(std::memory_order_acquire);
  const uint64_t left = seen >> 16 & kMaxShare, taken = seen & kMaxShare;
  if (left == 0) return false;
  const int64_t ranges = (count + grain - 1) / grain;
  const int64_t first = share_begin(ranges, owner);
  const bool own = owner == worker;
  const int64_t range = first + static_cast<int64_t>(own ? taken : taken + left - 1);
  const uint64_t next = claim_word(epoch_of(seen), left - 1, own ? taken + 1 : taken);
  // Fails where a range was taken, or where this is no longer the phase that was read.
  if (!share.claim.compare_exchange_strong(seen, next, std::memory_order_acq_rel)) return true;
  const int64_t begin = range * grain;
  call(body, begin, std::min(begin + grain, count), worker);
  if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == ranges) begin_phase(phase_ + 1, worker);
  return true;
}

}  // namespace pelton::cpu
