#include "server/worker_pool.h"

#include <algorithm>
#include <utility>

namespace pelton {

WorkerPool::WorkerPool(const Limits& limits) : limits_(limits) {
  for (int i = 0; i < std::max(1, limits.threads); ++i) threads_.emplace_back([this] { work(); });
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::try_submit(int64_t bytes, std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_ >= limits_.max_jobs) return false;
    if (jobs_ > 0 && bytes_ + bytes > limits_.max_bytes) return false;
    ++jobs_;
    bytes_ += bytes;
    queue_.push_back({bytes, std::move(job)});
  }
  wake_.notify_one();
  return true;
}

int WorkerPool::jobs() const {
  const std::lock_guard lock(mutex_);
  return jobs_;
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Job job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job.run();
    job.run = nullptr;  // what it holds goes before it stops counting
    lock.lock();
    --jobs_;
    bytes_ -= job.bytes;
  }
}

}  // namespace pelton
