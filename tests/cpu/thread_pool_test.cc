#include "cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>

#include "tests/support/catch.h"

namespace pelton::cpu {

TEST_CASE("every index is covered once whatever the threads and the grain") {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t count : {0, 1, 7, 1000}) {
      for (int64_t grain : {1, 3, 2000}) {
        std::vector<int> hits(count);
        pool.run(count, grain, [&](int64_t begin, int64_t end, int worker) {
          if (worker < 0 || worker >= threads) std::abort();
          for (int64_t i = begin; i < end; ++i) ++hits[i];
        });
        REQUIRE(std::all_of(hits.begin(), hits.end(), [](int n) { return n == 1; }));
      }
    }
  }
}

TEST_CASE("what a job wrote is seen by the next one and by the caller") {
  ThreadPool pool(4);
  std::vector<int64_t> values(64), last(64);
  for (int round = 0; round < 2000; ++round) {
    std::swap(values, last);
    pool.run(64, 1, [&](int64_t begin, int64_t, int) { values[begin] = last[63 - begin] + 1; });
    if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // all asleep
  }
  REQUIRE(std::accumulate(values.begin(), values.end(), int64_t{0}) == 64 * 2000);
}

TEST_CASE("several engines share one pool") {
  ThreadPool pool(3);
  std::vector<std::thread> engines;
  std::vector<int64_t> sums(4);
  for (int e = 0; e < 4; ++e) {
    engines.emplace_back([&pool, &sums, e] {
      for (int round = 0; round < 300; ++round) {
        std::vector<int64_t> parts(16);
        pool.run(16, 1, [&](int64_t begin, int64_t, int) { parts[begin] = begin + e; });
        sums[e] += std::accumulate(parts.begin(), parts.end(), int64_t{0});
      }
    });
  }
  for (std::thread& engine : engines) engine.join();
  for (int e = 0; e < 4; ++e) REQUIRE(sums[e] == 300 * (120 + 16 * e));
}

TEST_CASE("a worker's share is the same in every job unless another was faster") {
  ThreadPool pool(3);
  constexpr int kRanges = 9;
  // Each waits until all three have begun: nobody can be faster.
  for (int round = 0; round < 50; ++round) {
    std::vector<int> taken_by(kRanges, -1);
    std::atomic<int> begun{0};
    pool.run(kRanges, 1, [&](int64_t begin, int64_t, int worker) {
      if (begin % 3 == 0) {
        ++begun;
        while (begun < 3) std::this_thread::yield();
      }
      taken_by[begin] = worker;
    });
    for (int w = 0; w < 3; ++w) REQUIRE(taken_by[3 * w] == w);
  }
}

TEST_CASE("a job of more ranges than a share can count is done whole") {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  pool.run(300'000, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
  REQUIRE(sum == 300'000);
}

TEST_CASE("a job's phases see what the phases before wrote and are one fork and join") {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    Job job;
    std::vector<int64_t> a(257), b(257);
    const uint32_t before = pool.jobs();
    for (int round = 0; round < 500; ++round) {
      job.clear();
      int64_t* x = a.data();
      int64_t* y = b.data();
      const auto reverse = [](const int64_t* from, int64_t* to) {
        return [from, to](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) to[i] = from[256 - i] + 1;
        };
      };
      job.add(257, 10, reverse(x, y));
      job.add(257, 300, reverse(y, x));  // of one range
      job.add(0, 1, reverse(x, y));      // of none
      job.add(257, 1, reverse(x, y));
      job.add(257, 50, reverse(y, x));
      pool.run(job);
    }
    REQUIRE(std::accumulate(a.begin(), a.end(), int64_t{0}) == 257 * 2000);
    if (threads > 1) REQUIRE(pool.jobs() == before + 500);
  }
}

TEST_CASE("a job of small phases alone is done by its caller") {
  ThreadPool pool(2);
  Job job;
  int sum = 0;
  int* at = &sum;
  job.add(1, 1, [at](int64_t, int64_t, int worker) { *at += worker == 0 ? 1 : 100; });
  job.add(5, 8, [at](int64_t begin, int64_t end, int) { *at += static_cast<int>(end - begin); });
  pool.run(job);
  REQUIRE(sum == 6);
  REQUIRE(pool.jobs() == 0);
}

TEST_CASE("a pinned pool works and its caller may stay on the first core") {
  const std::vector<int> cpus = core_cpus();
  REQUIRE(!cpus.empty());
  ThreadPool pool(2, cpus);
  std::thread([&] {
    pool.pin_caller();
    std::vector<int> on(2, -1);
    pool.run_even(2, [&](int64_t begin, int64_t, int) { on[begin] = sched_getcpu(); });
    for (int cpu : on) REQUIRE(std::find(cpus.begin(), cpus.end(), cpu) != cpus.end());
  }).join();
}

TEST_CASE("a pool that never worked ends") {
  ThreadPool pool(8);
  REQUIRE(pool.threads() == 8);
  REQUIRE(usable_cores() >= 1);
}

}  // namespace pelton::cpu
