// What an engine refuses at once, and requests from several threads.
#include <atomic>
#include <limits>
#include <random>
#include <thread>

#include "scheduler/engine_inbox.h"
#include "tests/scheduler/engine_harness.h"
#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("a prompt that can never be answered is refused at once by name") {
  EngineSetup setup;
  setup.options.max_model_len = 20;
  EngineHarness h(setup);
  CHECK(h.engine->submit(h.request(std::vector<TokenId>(19, 1)), h.sink).ok());
  const Status status = h.engine->submit(h.request(std::vector<TokenId>(20, 1)), h.sink);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(error_reason(status) == "CONTEXT_LENGTH_EXCEEDED");
  CHECK(error_field(status) == "prompt");
  CHECK(h.engine->submit(h.request({}), h.sink).code() == absl::StatusCode::kInvalidArgument);

  setup.num_blocks = {2};
  EngineHarness tiny(setup);
  CHECK(error_reason(tiny.engine->submit(tiny.request(std::vector<TokenId>(8, 1)), tiny.sink)) ==
        "CONTEXT_LENGTH_EXCEEDED");
}

TEST_CASE("parameters out of bounds are refused at once by name") {
  EngineHarness h;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<std::string, std::function<void(Request&)>>> cases = {
      {"prompt", [](Request& r) { r.prompt[0].tokens[0] = -1; }},
      {"prompt", [](Request& r) { r.prompt[0].tokens[0] = kFakeVocab; }},
      {"sampling.temperature", [nan](Request& r) { r.params.temperature = nan; }},
      {"sampling.temperature", [](Request& r) { r.params.temperature = -1; }},
      {"sampling.top_p", [nan](Request& r) { r.params.top_p = nan; }},
      {"sampling.temperature", [](Request& r) { r.params.temperature = 100.5; }},
      {"sampling.top_p", [](Request& r) { r.params.top_p = 1.5; }},
      {"sampling.top_p", [](Request& r) { r.params.top_p = 0; }},
      {"sampling.logprobs", [](Request& r) { r.params.logprobs = 21; }},
      {"sampling.stop_token_ids", [](Request& r) { r.params.stop_token_ids.assign(257, 1); }},
      {"sampling.stop", [](Request& r) { r.params.stop = {""}; }},
      {"sampling.stop", [](Request& r) { r.params.stop = {std::string(1025, 'x')}; }},
      {"sampling.stop", [](Request& r) { r.params.stop.assign(17, "x"); }},
      {"sampling.min_p", [](Request& r) { r.params.min_p = -0.5; }},
      {"sampling.top_k", [](Request& r) { r.params.top_k = -2; }},
      {"sampling.max_tokens", [](Request& r) { r.params.max_tokens = 0; }},
      {"sampling.min_tokens", [](Request& r) { r.params.min_tokens = 9; }},
      {"sampling.logprobs", [](Request& r) { r.params.logprobs = 1 << 30; }},
      {"sampling.prompt_logprobs", [](Request& r) { r.params.prompt_logprobs = -2; }},
      {"sampling.stop_token_ids", [](Request& r) { r.params.stop_token_ids = {kFakeVocab}; }},
      {"sampling.stop", [](Request& r) { r.params.stop.assign(5000, "x"); }},
  };
  for (const auto& [field, spoil] : cases) {
    Request request = h.request({1, 2, 3}, 8);
    spoil(request);
    const Status status = h.engine->submit(request, h.sink);
    INFO(field);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(error_field(status) == field);
  }
  // What the front ends' validator lets through at its bounds.
  Request widest = h.request({1, 2, 3}, std::numeric_limits<int>::max());
  widest.params.temperature = 100;
  widest.params.top_k = std::numeric_limits<int>::max();
  widest.params.top_p = 1e-6F;
  widest.params.logprobs = widest.params.prompt_logprobs = 20;
  widest.params.stop.assign(16, std::string(1024, 'x'));
  widest.params.stop_token_ids.assign(256, 1);
  CHECK(h.ask(widest).last.finished());
  CHECK(h.refused.empty());
  CHECK(h.engine->idle());
  CHECK_FALSE(h.engine->step());
}

TEST_CASE("a ban of every token is refused and one that leaves a token is not") {
  EngineHarness h;
  Request request = h.request({1, 2, 3}, 8);
  for (TokenId id = 0; id < kFakeVocab; ++id) {
    if (id != kFakeEos) request.params.stop_token_ids.push_back(id);  // that one by itself
  }
  CHECK(h.engine->submit(request, h.sink).ok());
  request.id = h.engine->mint_request_id();
  request.params.min_tokens = 1;
  const Status status = h.engine->submit(request, h.sink);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(error_field(status) == "sampling.min_tokens");
  request.params.stop_token_ids.pop_back();
  CHECK(h.engine->submit(request, h.sink).ok());
  h.run();
  CHECK(h.sink->finished() == 2);
}

TEST_CASE("a full queue and an id in use are refused at once") {
  EngineSetup setup;
  setup.options.max_waiting_requests = 3;
  setup.options.max_num_seqs = 2;
  EngineHarness h(setup);
  Request twin = h.request({1}, 50);
  CHECK(h.engine->submit(twin, h.sink).ok());
  CHECK(h.engine->submit(twin, h.sink).code() == absl::StatusCode::kAlreadyExists);
  CHECK(h.engine->submit(h.request({1}, 50), h.sink).ok());
  CHECK(h.engine->submit(h.request({1}, 50), h.sink).ok());
  const Status full = h.engine->submit(h.request({1}), h.sink);
  CHECK(full.code() == absl::StatusCode::kResourceExhausted);
  CHECK(error_retry_after(full).has_value());
  CHECK(h.engine->load().waiting_requests == 3);
  h.engine->step();  // two are running now
  CHECK(h.engine->load().running_requests == 2);
  CHECK(h.engine->load().waiting_requests == 1);
  CHECK(h.engine->submit(h.request({1}), h.sink).ok());
  CHECK(h.engine->submit(h.request({1}), h.sink).ok());
  CHECK_FALSE(h.engine->submit(h.request({1}), h.sink).ok());
  h.run();
  CHECK(h.sink->finished() == 5);
}

TEST_CASE("a sink may submit and abort from within a delivery") {
  EngineHarness h;
  struct Chain : OutputSink {
    EngineHarness* h = nullptr;
    std::weak_ptr<Chain> self;
    int left = 5;
    int ended = 0;
    void deliver(std::vector<RequestOutput> outputs) override {
      for (const RequestOutput& output : outputs) {
        ended += output.finished();
        if (output.finished() || left == 0) continue;
        --left;
        h->engine->abort(output.id);
        REQUIRE(h->engine->submit(h->request({1}, 3), self.lock()).ok());
      }
    }
  };
  auto chain = std::make_shared<Chain>();
  chain->h = &h;
  chain->self = chain;
  REQUIRE(h.engine->submit(h.request({1}, 3), chain).ok());
  h.run();
  CHECK(chain->ended == 6);
}

TEST_CASE("requests and aborts from several threads each end exactly once") {
  EngineSetup setup;
  setup.num_blocks = {100};
  setup.options.max_num_seqs = 8;
  setup.options.check_integrity = false;
  EngineHarness h(setup);
  h.engine->start();
  std::atomic<int> accepted{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&h, &accepted, t] {
      std::mt19937_64 rng(static_cast<uint64_t>(t));
      std::vector<RequestId> mine;
      for (int i = 0; i < 300; ++i) {
        Request request = h.request({static_cast<TokenId>(rng() % kFakeVocab), 2, 3, 4, 5},
                                    static_cast<int>(1 + rng() % 20));
        mine.push_back(request.id);
        if (h.engine->submit(request, h.sink).ok()) ++accepted;
        if (rng() % 3 == 0) h.engine->abort(mine[rng() % mine.size()]);
      }
    });
  }
  // Catch's macros are for one thread: the reader counts what is wrong.
  std::atomic<int> wrong{0};
  threads.emplace_back([&h, &done, &wrong] {
    KvEventPosition next;
    while (!done) {
      const Load load = h.engine->load();
      wrong += load.used_blocks > load.total_blocks;
      wrong += h.engine->heartbeat() > h.clock.now();
      wrong += h.engine->stats().steps < 0;
      wrong += !h.engine->health().ok();
      next = h.engine->read_kv_events(next).next;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  for (int t = 0; t < 4; ++t) threads[static_cast<size_t>(t)].join();
  while (!h.engine->idle()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  done = true;
  threads.back().join();
  CHECK(wrong == 0);
  CHECK(accepted > 0);
  CHECK(h.sink->finished() == accepted);
  CHECK(h.sink->faults() == 0);
  CHECK(h.engine->load().used_blocks == 0);
}

TEST_CASE("an engine stops while requests are in flight and threads submit") {
  for (int round = 0; round < 20; ++round) {
    EngineHarness h;
    h.engine->start();
    int accepted = 0;
    for (int i = 0; i < 20; ++i) {
      accepted += h.engine->submit(h.request({i}, 150), h.sink).ok();
    }
    h.engine.reset();
    CHECK(h.sink->finished() == accepted);
    CHECK(h.sink->faults() == 0);
  }
}

TEST_CASE("the token rate is that of the last second") {
  RateMeter meter;
  TimePoint now{std::chrono::hours(10)};
  CHECK(meter.per_second(now) == 0);
  for (int i = 0; i < 50; ++i) {
    meter.add(now, 3);
    now += std::chrono::milliseconds(50);
  }
  CHECK(meter.per_second(now) == Approx(60).margin(6));
  now += std::chrono::milliseconds(1100);
  CHECK(meter.per_second(now) == 0);
  now += std::chrono::hours(1);
  meter.add(now, 5);
  CHECK(meter.per_second(now) == 5);
}

}  // namespace pelton
