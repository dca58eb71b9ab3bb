// Fork and join over the cores, for work of microseconds: workers spin for a moment after each job,
// then sleep. One pool is shared by all engines of the process; run() is thread-safe, jobs take
// turns. The caller works too, and waits for no worker that has not begun.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace pelton::cpu {

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
  // Forks and joins so far.
  uint32_t jobs() const { return epoch_.load(std::memory_order_relaxed); }

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
    run_job([](void* body, int64_t begin, int64_t end,
               int worker) { (*static_cast<Body*>(body))(begin, end, worker); },
            const_cast<void*>(static_cast<const void*>(&fn)), count, grain);
  }
  // Ranges as even as can be, one a thread.
  template <typename Fn>
  void run_even(int64_t count, Fn&& fn) {
    run(count, (count + threads() - 1) / threads(), std::forward<Fn>(fn));
  }

 private:
  using Call = void (*)(void* body, int64_t begin, int64_t end, int worker);
  // Job number << 32 | ranges left at the end << 16 | ranges taken from the front.
  struct alignas(64) Share {
    std::atomic<uint64_t> claim{0};
  };

  void run_job(Call call, void* body, int64_t count, int64_t grain);
  void worker_loop(int worker);
  void take_ranges(int worker);
  // The first range of a worker's share.
  int64_t share_begin(int64_t ranges, int worker) const {
    return (ranges * worker + threads() - 1) / threads();
  }
  bool take_from(int owner, int worker);  // false: nothing is left there

  const std::vector<int> cpus_;
  std::mutex one_job_;
  // The job; a reader may use what it read only if it then claims a range of the same job.
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> body_{nullptr};
  std::atomic<int64_t> count_{0};
  std::atomic<int64_t> grain_{1};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // jobs started; what idle workers wait on
  alignas(64) std::atomic<int64_t> done_{0};    // ranges finished
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
