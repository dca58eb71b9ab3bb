#include "scheduler/engine.h"

#include <random>
#include <set>

#include "tests/scheduler/engine_harness.h"
#include "tests/scheduler/kv_event_replay.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

// A mix of lengths, greedy and seeded, with prefixes in common.
Request mixed_request(EngineHarness& h, std::mt19937_64& rng, int longest) {
  const auto below = [&rng](int bound) { return static_cast<int>(rng() % bound); };
  const int length = 1 + below(longest);
  const int shared = below(length + 1);
  std::vector<TokenId> prompt;
  for (int i = 0; i < length; ++i) prompt.push_back(i < shared ? i % 5 : below(kFakeVocab));
  Request request = h.request(std::move(prompt), 1 + below(40));
  SamplingParams& params = request.params;
  params.ignore_eos = below(2) == 0;
  if (below(2) == 0) params.temperature = 0.8F;
  params.seed = rng();
  if (below(4) == 0) params.stop_token_ids = {below(kFakeVocab), below(kFakeVocab)};
  if (below(3) == 0) params.min_tokens = below(params.max_tokens + 1);
  return request;
}

struct MixResult {
  int64_t preemptions;
  int64_t hits;
};

MixResult check_mix(EngineSetup setup, int longest_prompt) {
  EngineHarness h(setup);
  std::mt19937_64 rng(11);
  std::vector<Request> requests;
  for (int i = 0; i < 200; ++i) requests.push_back(mixed_request(h, rng, longest_prompt));
  size_t next = 0;
  for (bool more = true; more;) {
    while (next < requests.size() && static_cast<int>(next) - h.sink->finished() < 32) {
      h.submit(requests[next++]);
    }
    more = h.engine->step();
  }
  REQUIRE(h.refused.empty());
  REQUIRE(h.sink->finished() == 200);
  CHECK(h.sink->faults() == 0);
  CHECK(h.model->error() == "");
  for (const Request& request : requests) {
    const auto [tokens, reason] = lone_answer(*h.model, request, h.engine->max_sequence_tokens());
    const CollectingSink::Answer answer = h.sink->answer(request.id);
    INFO("request " << request.id.value << " error " << answer.last.status);
    REQUIRE(answer.tokens == tokens);
    REQUIRE(answer.last.finish_reason == reason);
    REQUIRE(answer.last.usage.prompt_tokens == static_cast<int>(request.prompt[0].tokens.size()));
    REQUIRE(answer.last.usage.completion_tokens == static_cast<int>(tokens.size()));
  }
  CHECK(h.engine->load().used_blocks == 0);
  CHECK(h.engine->idle());
  const EngineStats stats = h.engine->stats();
  CHECK(stats.finished[static_cast<size_t>(FinishReason::kStop)] +
            stats.finished[static_cast<size_t>(FinishReason::kLength)] ==
        200);
  return {stats.preemptions, stats.prefix_cache_hits};
}

EngineSetup mix_setup(bool prefix_cache, std::vector<int> windows, std::vector<int> blocks) {
  EngineSetup setup;
  setup.options.enable_prefix_caching = prefix_cache;
  setup.geometry = fake_geometry(4, std::move(windows));
  setup.num_blocks = std::move(blocks);
  return setup;
}

}  // namespace

TEST_CASE("200 mixed requests at concurrency 32 answer as each alone with a roomy cache") {
  CHECK(check_mix(mix_setup(true, {0}, {1000}), 100).hits > 0);
  const MixResult off = check_mix(mix_setup(false, {0}, {1000}), 100);
  CHECK(off.hits == 0);
  CHECK(off.preemptions == 0);
}

TEST_CASE("200 mixed requests at concurrency 32 answer as each alone under preemption") {
  CHECK(check_mix(mix_setup(true, {0}, {45}), 100).preemptions > 10);
  CHECK(check_mix(mix_setup(false, {0}, {45}), 100).preemptions > 10);
}

TEST_CASE("200 mixed requests at concurrency 32 answer as each alone with window groups") {
  const MixResult roomy = check_mix(mix_setup(true, {0, 9}, {1000, 500}), 100);
  CHECK(roomy.hits > 0);
  CHECK(check_mix(mix_setup(true, {0, 9, 3}, {50, 40, 30}), 100).preemptions > 10);
  CHECK(check_mix(mix_setup(true, {12}, {24}), 100).preemptions > 0);
}

TEST_CASE("a thousand aborts at random moments leave no block and no sequence and change nobody") {
  EngineSetup setup;
  setup.num_blocks = {60};
  setup.options.max_waiting_requests = 64;
  EngineHarness h(setup);
  std::mt19937_64 rng(5);
  std::vector<Request> requests;
  std::set<RequestId> open;
  std::set<RequestId> aborted;
  while (aborted.size() < 1000) {
    while (open.size() < 40) {
      requests.push_back(mixed_request(h, rng, 60));
      open.insert(h.submit(requests.back()));
    }
    for (int i = 0; i < 3; ++i) {
      auto it = open.begin();
      std::advance(it, static_cast<int64_t>(rng() % open.size()));
      if (h.sink->answer(*it).last.finished()) continue;
      h.engine->abort(*it);
      aborted.insert(*it);
    }
    h.engine->step();
    std::erase_if(open, [&h](RequestId id) { return h.sink->answer(id).last.finished(); });
  }
  h.run();
  REQUIRE(h.refused.empty());
  CHECK(h.sink->finished() == static_cast<int>(requests.size()));
  CHECK(h.sink->faults() == 0);
  CHECK(h.engine->idle());
  CHECK(h.engine->load().used_blocks == 0);
  CHECK(h.engine->load().running_requests == 0);
  CHECK(h.engine->load().waiting_requests == 0);
  for (const Request& request : requests) {
    const CollectingSink::Answer answer = h.sink->answer(request.id);
    const auto [tokens, reason] = lone_answer(*h.model, request, h.engine->max_sequence_tokens());
    if (aborted.contains(request.id)) {
      CHECK(answer.last.finish_reason == FinishReason::kAbort);
      CHECK(std::equal(answer.tokens.begin(), answer.tokens.end(), tokens.begin()));
    } else {
      CHECK(answer.tokens == tokens);
    }
  }
}

TEST_CASE("an abort ends a request by the next step and unknown ids are ignored") {
  EngineHarness h;
  const RequestId id = h.submit(h.request({1, 2, 3}, 100));
  h.engine->abort(RequestId(999));
  h.engine->step();
  h.engine->step();
  h.engine->abort(id);
  h.engine->step();
  const CollectingSink::Answer answer = h.sink->answer(id);
  CHECK(static_cast<int>(answer.tokens.size()) == 2 - h.lag);
  CHECK(answer.last.finish_reason == FinishReason::kAbort);
  CHECK(answer.last.status.ok());
  CHECK(h.engine->load().used_blocks == 0);
  h.engine->abort(id);
  CHECK_FALSE(h.engine->step());
}

TEST_CASE("a deadline ends a request in the queue and in the middle of its answer") {
  EngineSetup setup;
  setup.options.max_num_seqs = 1;
  EngineHarness h(setup);
  Request runs = h.request({1}, 100);
  runs.deadline = h.clock.now() + std::chrono::seconds(2);
  Request waits = h.request({2}, 100);
  waits.deadline = h.clock.now() + std::chrono::seconds(1);
  const RequestId running = h.submit(runs);
  const RequestId waiting = h.submit(waits);
  h.engine->step();
  h.clock.advance(std::chrono::seconds(1));
  h.engine->step();
  CHECK(h.sink->answer(waiting).last.finish_reason == FinishReason::kAbort);
  CHECK(h.sink->answer(waiting).last.status.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(h.sink->answer(waiting).last.timing.queued == std::chrono::seconds(1));
  CHECK_FALSE(h.sink->answer(running).last.finished());
  h.clock.advance(std::chrono::seconds(1));
  h.engine->step();
  CHECK(static_cast<int>(h.sink->answer(running).tokens.size()) == 2 - h.lag);
  CHECK(h.sink->answer(running).last.status.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(h.engine->idle());
}

TEST_CASE("a row that is not a number ends its request alone") {
  EngineHarness h;
  h.model->is_nan = [](TokenId last) { return last == 49; };
  h.model->script = [](TokenId last, int) { return last == 48 ? 48 : last == 47 ? 49 : -1; };
  const RequestId good = h.submit(h.request({48}, 5));
  const RequestId bad = h.submit(h.request({1, 47}, 5));
  Request scored = h.request({1, 49, 2}, 5);  // the NaN is in a scored prompt position
  scored.params.prompt_logprobs = 0;
  const RequestId bad_prompt = h.submit(scored);
  h.run();
  CHECK(h.sink->answer(good).tokens == std::vector<TokenId>(5, 48));
  CHECK(h.sink->answer(good).last.finish_reason == FinishReason::kLength);
  CHECK(h.sink->answer(bad).tokens == std::vector<TokenId>{49});
  CHECK(h.sink->answer(bad).last.finish_reason == FinishReason::kError);
  CHECK(h.sink->answer(bad).last.status.code() == absl::StatusCode::kInternal);
  CHECK(h.sink->answer(bad_prompt).last.finish_reason == FinishReason::kError);
  CHECK(h.engine->health().ok());
  CHECK(h.engine->load().used_blocks == 0);
}

TEST_CASE("a token outside the vocabulary ends its request alone") {
  EngineHarness h;
  h.model->script = [](TokenId last, int) { return last == 1 ? kFakeVocab : 2; };
  const RequestId bad = h.submit(h.request({1}, 3));
  const RequestId good = h.submit(h.request({3}, 3));
  h.run();
  CHECK(h.sink->answer(bad).last.status.code() == absl::StatusCode::kInternal);
  CHECK(h.sink->answer(good).tokens.size() == 3);
}

TEST_CASE("a device error ends everything in flight as unavailable and nothing is accepted after") {
  EngineHarness h;
  int steps = 0;
  h.model->before_forward = [&steps](const Batch&) {
    return ++steps < 3 ? absl::OkStatus() : absl::InternalError("bus error");
  };
  std::vector<RequestId> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(h.submit(h.request({i, 1, 2, 3, 4}, 50)));
  h.run();
  for (const RequestId id : ids) {
    const RequestOutput last = h.sink->answer(id).last;
    CHECK(last.finish_reason == FinishReason::kError);
    CHECK(last.status.code() == absl::StatusCode::kUnavailable);
  }
  CHECK(h.sink->finished() == 40);
  CHECK(h.engine->health().code() == absl::StatusCode::kUnavailable);
  CHECK(h.engine->submit(h.request({1}), h.sink).code() == absl::StatusCode::kUnavailable);
  CHECK(h.engine->idle());
  CHECK(h.engine->load().used_blocks == 0);
}

TEST_CASE("draining refuses the new and completes the old") {
  EngineHarness h;
  const RequestId old = h.submit(h.request({1}, 4));
  h.engine->drain();
  CHECK(h.engine->submit(h.request({1}), h.sink).code() == absl::StatusCode::kUnavailable);
  CHECK_FALSE(h.engine->idle());
  h.run();
  CHECK(h.sink->answer(old).tokens.size() == 4);
  CHECK(h.engine->idle());
}

TEST_CASE("ending all gives what runs and what waits the error and refuses the new") {
  EngineHarness h;
  const RequestId running = h.submit(h.request({1}, 100));
  h.engine->step();
  const RequestId queued = h.submit(h.request({1}, 100));
  h.engine->end_all(absl::UnavailableError("enough"));
  CHECK(h.engine->submit(h.request({1}), h.sink).code() == absl::StatusCode::kUnavailable);
  h.run();
  for (const RequestId id : {running, queued}) {
    CHECK(h.sink->answer(id).last.finish_reason == FinishReason::kError);
    CHECK(h.sink->answer(id).last.status == absl::UnavailableError("enough"));
  }
  CHECK(h.sink->faults() == 0);
  CHECK(h.engine->idle());
  CHECK(h.engine->load().used_blocks == 0);
  CHECK(h.engine->health().ok());
}

TEST_CASE("an engine that goes ends what is in flight with abort") {
  EngineHarness h;
  const RequestId running = h.submit(h.request({1}, 100));
  h.engine->step();
  const RequestId queued = h.submit(h.request({1}, 100));
  h.engine.reset();
  CHECK(h.sink->answer(running).last.finish_reason == FinishReason::kAbort);
  CHECK(h.sink->answer(queued).last.finish_reason == FinishReason::kAbort);
}

TEST_CASE("each sink gets one delivery a step whatever the number of its requests") {
  EngineHarness h;
  auto other = std::make_shared<CollectingSink>();
  for (int i = 0; i < 10; ++i) h.submit(h.request({i}, 5));
  REQUIRE(h.engine->submit(h.request({1}, 5), other).ok());
  h.run();
  CHECK(h.engine->stats().steps == 5);
  CHECK(h.sink->deliveries() == 5);
  CHECK(other->deliveries() == 5);
}

TEST_CASE("usage and timing and statistics count what was done") {
  EngineHarness h;
  std::vector<TokenId> prompt(20, 3);
  Request first = h.request(prompt, 3);
  first.arrival = h.clock.now() - std::chrono::seconds(5);
  h.model->before_forward = [&h](const Batch&) {
    h.clock.advance(std::chrono::seconds(1));
    return absl::OkStatus();
  };
  const RequestOutput one = h.ask(first).last;
  CHECK(one.usage.prompt_tokens == 20);
  CHECK(one.usage.cached_tokens == 0);
  CHECK(one.usage.completion_tokens == 3);
  CHECK(one.timing.queued == std::chrono::seconds(5));
  CHECK(one.timing.prefill == std::chrono::seconds(1 + h.lag));
  CHECK(one.timing.decode == std::chrono::seconds(2 - h.lag));
  CHECK(h.engine->load().generated_tokens_per_second > 0);
  CHECK(h.ask(h.request(prompt, 3)).last.usage.cached_tokens == 16);  // one token must be computed
  Request stranger = h.request(prompt, 3);
  stranger.tenant = "another";
  CHECK(h.ask(stranger).last.usage.cached_tokens == 0);
  Request shy = h.request(prompt, 3);
  shy.use_prefix_cache = false;
  CHECK(h.ask(shy).last.usage.cached_tokens == 0);

  const EngineStats stats = h.engine->stats();
  CHECK(stats.prompt_tokens == 80);
  CHECK(stats.generation_tokens == 12);
  CHECK(stats.prefix_cache_queries == 60);
  CHECK(stats.prefix_cache_hits == 16);
  CHECK(stats.finished[static_cast<size_t>(FinishReason::kLength)] == 4);
  KvEventReplay replay;
  struct Source {
    Engine* engine;
    KvEventBatch read(KvEventPosition at, size_t max) const {
      return engine->read_kv_events(at, max);
    }
  };
  replay.follow(Source{h.engine.get()});
  CHECK(replay.index.size() == 10);  // five full blocks for each of two tenants
}

TEST_CASE("the heartbeat is now when idle and stands still while a step is stuck") {
  EngineHarness h;
  h.clock.advance(std::chrono::hours(1));
  CHECK(h.engine->heartbeat() == h.clock.now());
  h.submit(h.request({1}, 2));
  const TimePoint submitted = h.clock.now();
  CHECK(h.engine->heartbeat() == submitted);
  h.clock.advance(std::chrono::seconds(3));
  CHECK(h.engine->heartbeat() == submitted);
  h.engine->step();
  CHECK(h.engine->heartbeat() == h.clock.now());
}

TEST_CASE("the work of a step grows to what steps take where the model is synchronous") {
  EngineSetup setup;
  setup.options.max_num_batched_tokens = 200;
  setup.options.step_work = 16;
  setup.options.step_seconds = 0.1;
  EngineHarness h(setup);
  int widest = 0, first = 0;
  h.model->before_forward = [&](const Batch& batch) {
    if (first == 0) first = batch.num_tokens();
    widest = std::max(widest, batch.num_tokens());
    h.clock.advance(std::chrono::milliseconds(batch.num_tokens()));
    return absl::OkStatus();
  };
  for (TokenId token = 10; token < 40; ++token) {
    h.ask(h.request(std::vector<TokenId>(150, token), 2));
  }
  CHECK(first == 16);
  if (h.lag == 0) CHECK((widest > 80 && widest <= 100));
  if (h.lag == 1) CHECK(widest == 16);
}

TEST_CASE("a step may take three times the longest and more where it is larger") {
  using std::chrono::seconds;
  EngineHarness h;
  CHECK(h.engine->step_allowance() == Duration::max());
  // Asks for one step of a prompt of that length and one of a single token; gives what the first
  // was allowed.
  const auto ask = [&h](int length, TokenId token, Duration each_step) {
    std::optional<Duration> allowed;
    h.model->before_forward = [&, each_step](const Batch&) {
      if (!allowed) allowed = h.engine->step_allowance();
      h.clock.advance(each_step);
      return absl::OkStatus();
    };
    h.ask(h.request(std::vector<TokenId>(static_cast<size_t>(length), token), 2));
    return *allowed;
  };
  CHECK(ask(10, 3, seconds(1)) == Duration::max());
  CHECK(ask(10, 4, seconds(1)) == seconds(3));
  const Duration larger = ask(40, 5, seconds(1));  // four times, and it looks further back
  CHECK((larger >= seconds(12) && larger < seconds(13)));
  CHECK(ask(10, 7, seconds(4)) == seconds(3));
  CHECK(ask(40, 9, seconds(1)) == seconds(12));  // as long as one was
}

}  // namespace pelton
