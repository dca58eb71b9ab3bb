#include "cuda/emulator/grid_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "cuda/emulator/memory_faults.h"
#include "cuda/emulator/tracer.h"

namespace pelton::cuda::emulator {
namespace {

// Below this many threads in all, waking another host thread costs more than it saves.
constexpr uint64_t kThreadsWorthSharing = 4096;

// One grid under way. Blocks are taken from a counter.
struct Job {
  Job(const Grid& grid, const Schedule& schedule, uint64_t num_blocks,
      const std::vector<uint32_t>* order)
      : grid(grid), schedule(schedule), num_blocks(num_blocks), order(order) {}

  const Grid& grid;
  const Schedule& schedule;
  uint64_t num_blocks;
  const std::vector<uint32_t>* order;  // null: by index
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  Fault fault;

  void work() {
    catch_memory_faults_on_this_thread();
    BlockRunner& runner = BlockRunner::of_this_thread();
    const dim3 size = grid.size;
    for (;;) {
      const uint64_t i = next.fetch_add(1);
      if (i >= num_blocks || failed.load()) return;
      uint64_t b = i;
      if (schedule.order == Order::kReverse) b = num_blocks - 1 - i;
      if (order != nullptr) b = (*order)[i];
      const uint3 block = {static_cast<unsigned>(b % size.x),
                           static_cast<unsigned>(b / size.x % size.y),
                           static_cast<unsigned>(b / size.x / size.y)};
      Fault local;
      if (!runner.run(grid, block, schedule, local)) {
        std::lock_guard lock(mutex);
        if (!failed.exchange(true)) fault = std::move(local);
      }
    }
  }
};

class Pool {
 public:
  explicit Pool(unsigned threads) {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { loop(); });
  }
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::mutex& owner() { return owner_; }

  void run(Job& job) {
    {
      std::lock_guard lock(mutex_);
      job_ = &job;
      ++generation_;
      busy_ = threads_.size();
    }
    wake_.notify_all();
    job.work();
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return busy_ == 0; });
    job_ = nullptr;
  }

 private:
  void loop() {
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      Job* job = job_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--busy_ == 0) idle_.notify_all();
    }
  }

  std::mutex owner_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::vector<std::thread> threads_;
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  size_t busy_ = 0;
  bool stopping_ = false;
};

std::vector<uint32_t> shuffled(uint64_t num_blocks, uint64_t seed) {
  std::vector<uint32_t> order(num_blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  return order;
}

}  // namespace

bool run_blocks(const Grid& grid, const Schedule& schedule, Fault& fault) {
  const uint64_t num_blocks = uint64_t{grid.size.x} * grid.size.y * grid.size.z;
  std::vector<uint32_t> order;
  if (schedule.order == Order::kRandom) order = shuffled(num_blocks, schedule.seed);
  Job job(grid, schedule, num_blocks, order.empty() ? nullptr : &order);
  const uint64_t threads = num_blocks * grid.block.x * grid.block.y * grid.block.z;
  const unsigned host_threads = schedule.host_threads != 0
                                    ? schedule.host_threads
                                    : std::max(1u, std::thread::hardware_concurrency());
  bool shared = false;
  Tracer* tracer = Tracer::active();
  if (tracer != nullptr) tracer->begin_kernel(grid.name);
  if (tracer == nullptr && host_threads > 1 && num_blocks > 1 && threads >= kThreadsWorthSharing) {
    static Pool pool(std::max(1u, std::thread::hardware_concurrency()) - 1);
    std::unique_lock lock(pool.owner(), std::try_to_lock);
    if (lock.owns_lock()) {
      pool.run(job);
      shared = true;
    }
  }
  if (!shared) job.work();
  if (tracer != nullptr) tracer->end_kernel();
  if (job.failed.load()) fault = job.fault;
  return !job.failed.load();
}

}  // namespace pelton::cuda::emulator
