// Threads that tokenise and render, apart from I/O and engine threads. A bounded queue: what does
// not fit is refused, never dropped. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace pelton {

class WorkerPool {
 public:
  struct Limits {
    int threads = 1;
    int max_jobs = 256;                     // queued or running
    int64_t max_bytes = int64_t{64} << 20;  // of the requests they hold
  };

  explicit WorkerPool(const Limits& limits);
  ~WorkerPool();  // runs what is queued, then joins
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False when the job is not taken: too many jobs, or bytes (one job alone always fits).
  bool try_submit(int64_t bytes, std::function<void()> job);
  int jobs() const;  // queued or running

 private:
  struct Job {
    int64_t bytes;
    std::function<void()> run;
  };
  void work();

  const Limits limits_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  int jobs_ = 0;
  int64_t bytes_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace pelton
