#include "client/bench_load.h"

#include <atomic>
#include <set>
#include <sstream>

#include "tests/support/catch.h"

namespace pelton {
namespace {

class CountingTarget final : public BenchTarget {
 public:
  CountingTarget(std::atomic<int>& running, std::atomic<int>& most)
      : running_(running), most_(most) {}
  BenchResult run(const BenchRequest&) override {
    const int now = ++running_;
    int seen = most_;
    while (seen < now && !most_.compare_exchange_weak(seen, now)) {
    }
    --running_;
    BenchResult result;
    result.completion_tokens = 1;
    return result;
  }

 private:
  std::atomic<int>& running_;
  std::atomic<int>& most_;
};

}  // namespace

TEST_CASE("prompts are distinct and of the lengths asked for and the same for a seed") {
  const auto requests = make_bench_requests(200, 5, 9, 42);
  std::set<std::string> distinct;
  std::set<long> lengths;
  for (const BenchRequest& request : requests) {
    distinct.insert(request.prompt);
    std::istringstream words(request.prompt);
    lengths.insert(std::distance(std::istream_iterator<std::string>(words), {}) - 2);
  }
  CHECK(distinct.size() == 200);
  CHECK(*lengths.begin() == 5);
  CHECK(*lengths.rbegin() == 9);
  CHECK(make_bench_requests(200, 5, 9, 42)[17].prompt == requests[17].prompt);
  CHECK(make_bench_requests(200, 5, 9, 43)[17].prompt != requests[17].prompt);
}

TEST_CASE("a closed loop runs each request once and never more than its streams at a time") {
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  int last = 0;
  const auto run = run_closed_loop(
      [&]() -> StatusOr<std::unique_ptr<BenchTarget>> {
        return std::make_unique<CountingTarget>(running, most);
      },
      make_bench_requests(100, 1, 2, 1), 4, [&](int done) { last = done; });
  REQUIRE(run.ok());
  CHECK(run->results.size() == 100);
  CHECK(last == 100);
  CHECK(most <= 4);
}

TEST_CASE("token times count each token of a message as a gap") {
  TokenTimer timer;
  timer.on_tokens(1);
  timer.on_tokens(3);
  timer.on_tokens(0);
  BenchResult result;
  timer.finish(result);
  CHECK(result.itl_s.size() == 3);
  CHECK(result.e2el_s >= result.ttft_s);
}

TEST_CASE("only plain http urls are taken") {
  CHECK_FALSE(openai_bench_target("https://x", "", "", {}).ok());
  CHECK(openai_bench_target("http://127.0.0.1:8000/v1", "", "", {}).ok());
}

}  // namespace pelton
