#include "cpu/thread_pool.h"

#include <algorithm>
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

TEST_CASE("a pool that never worked ends") {
  ThreadPool pool(8);
  REQUIRE(pool.threads() == 8);
  REQUIRE(usable_cores() >= 1);
}

}  // namespace pelton::cpu
