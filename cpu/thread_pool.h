// Fork and join over the cores, for work of microseconds: workers spin for a moment after each job,
// then sleep. One pool is shared by all engines of the process; run() is thread-safe, jobs take
// turns. The caller works too, and waits for no worker that has not begun.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

namespace pelton::cpu {

// Work that is cut into ranges of `grain` (the last may be shorter).
struct Phase {
  void (*call)(void* body, int64_t begin, int64_t end, int worker) = nullptr;
  void* body = nullptr;
  int64_t count = 0;
  int64_t grain = 1;
};

// Memory that a worker will read once the job is done, from its start on.
struct Ahead {
  const uint8_t* begin = nullptr;
  int lines = 0;  // of 64 bytes
};

// Phases of one fork and join: the ranges of one begin when those before are done. Reused from one
// job to the next.
class Job {
 public:
  void clear() {
    phases_.clear();
    ahead_.clear();
  }
  // fn(begin, end, worker), as of ThreadPool::run; a copy is kept.
  template <typename Fn>
  void add(int64_t count, int64_t grain, Fn fn) {
    static_assert(sizeof(Fn) <= sizeof(Body) && alignof(Fn) <= alignof(Body));
    static_assert(std::is_trivially_copyable_v<Fn> && std::is_trivially_destructible_v<Fn>);
    if (bodies_.size() == phases_.size()) bodies_.push_back(std::make_unique<Body>());
    void* body = new (bodies_[phases_.size()]->bytes) Fn(fn);
    phases_.push_back({[](void* at, int64_t begin, int64_t end, int worker) {
                         (*static_cast<Fn*>(at))(begin, end, worker);
                       },
                       body, count, grain});
  }
  // What each worker fetches where it waits, in this job and after it; none given: nothing.
  void add_ahead(Ahead ahead) { ahead_.push_back(ahead); }
  const std::vector<Phase>& phases() const { return phases_; }
  const std::vector<Ahead>& ahead() const { return ahead_; }

 private:
  struct alignas(16) Body {
    std::byte bytes[256];
  };
  std::vector<Phase> phases_;
  std::vector<std::unique_ptr<Body>> bodies_;
  std::vector<Ahead> ahead_;  // [threads] or empty
};

class ThreadPool {
 public:
  // threads: the caller's included, >= 1. cpus: worker i stays on cpus[i % size]; empty: anywhere.
  explicit ThreadPool(int threads, std::vector<int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(shares_.size()); }
  // Keeps the calling thread on the first of the cpus, where there are any: for the engine's.
  void pin_caller() const;
  // Forks and joins so far, and phases that threads shared in them.
  uint32_t jobs() const { return jobs_; }
  uint32_t phases() const { return epoch_.load(std::memory_order_relaxed); }

  // Calls fn(begin, end, worker) until [0, count) is covered by ranges of `grain` (the last may be
  // shorter), worker being 0 .. threads() - 1, then returns. Each worker has a share of its own,
  // ascending, the same in every call; who is done early takes from the end of another's. fn's
  // results must not depend on who took what. fn must not call run(). A grain so small that a share
  // has more than 2^16 ranges is raised.
  template <typename Fn>
  void run(int64_t count, int64_t grain, Fn&& fn) {
    if (count <= 0) return;
    if (count <= grain || workers_.empty()) {
      fn(int64_t{0}, count, 0);
      return;
    }
    using Body = std::remove_reference_t<Fn>;
    const Phase phase = {[](void* body, int64_t begin, int64_t end, int worker) {
                           (*static_cast<Body*>(body))(begin, end, worker);
                         },
                         const_cast<void*>(static_cast<const void*>(&fn)), count, grain};
    run_phases(&phase, 1, nullptr);
  }
  // The phases in turn. One of a single range is done by whoever ended the phase before.
  void run(const Job& job) {
    const bool ahead = job.ahead().size() == shares_.size();
    run_phases(job.phases().data(), static_cast<int>(job.phases().size()),
               ahead ? job.ahead().data() : nullptr);
  }
  // Ranges as even as can be, one a thread.
  template <typename Fn>
  void run_even(int64_t count, Fn&& fn) {
    run(count, even_grain(count), std::forward<Fn>(fn));
  }
  int64_t even_grain(int64_t count) const { return (count + threads() - 1) / threads(); }
  // Where a worker's share of [0, count) begins that is run in ranges of `grain`.
  int64_t share_begin(int64_t count, int64_t grain, int worker) const {
    return share_begin((count + grain - 1) / grain, worker) * grain;
  }

 private:
  using Call = decltype(Phase::call);
  // What a worker waits on and works by, in one cache line: each that another core has written
  // costs it hundreds of nanoseconds. Who read a claim and then the phase may use that only if it
  // then changes the claim, whose epoch is the phase's.
  struct alignas(64) Share {
    std::atomic<uint64_t> claim{0};  // epoch << 32 | ranges left at the end << 16 | taken in front
    std::atomic<Call> call{nullptr};
    std::atomic<void*> body{nullptr};
    std::atomic<int64_t> count{0};
    std::atomic<int64_t> grain{1};
    std::atomic<const uint8_t*> ahead{nullptr};
    std::atomic<int32_t> ahead_lines{0};
    std::atomic<bool> finished{true};  // the whole job; the caller's share alone
  };
  static_assert(sizeof(Share) == 64);
  class Waiter;

  void run_phases(const Phase* phases, int count, const Ahead* ahead);
  void begin_phase(int index, int worker);
  void publish(const Phase& phase);
  void worker_loop(int worker);
  void take_ranges(int worker);
  // The first range of a worker's share.
  int64_t share_begin(int64_t ranges, int worker) const {
    return (ranges * worker + threads() - 1) / threads();
  }
  bool take_from(int owner, int worker);  // false: nothing is left there

  const std::vector<int> cpus_;
  std::mutex one_job_;
  std::atomic<uint32_t> jobs_{0};
  // The job: written where nobody works on it, by its caller, then by whoever ends a phase. In the
  // line of what is counted at the end of each range.
  alignas(64) std::atomic<int64_t> done_{0};  // ranges finished
  const Phase* phases_ = nullptr;
  const Ahead* ahead_ = nullptr;  // [threads] or null
  int num_phases_ = 0;
  int phase_ = 0;
  alignas(64) std::atomic<uint32_t> epoch_{0};  // phases started; what workers sleep on
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::vector<Share> shares_;  // [threads]
  std::vector<std::thread> workers_;
};

// Cores that this process may use: distinct physical cores of the affinity mask, within the
// cgroup's CPU quota. At least 1.
int usable_cores();
// One logical processor of each physical core in the affinity mask, ascending.
std::vector<int> core_cpus();

}  // namespace pelton::cpu
