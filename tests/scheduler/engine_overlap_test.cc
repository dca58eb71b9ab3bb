// Overlapping steps: what differs from steps one after the other. That answers do not differ is
// shown by the other engine tests, which run with both.
#include "tests/scheduler/engine_harness.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

EngineSetup overlapping() {
  EngineSetup setup;
  setup.options.async_scheduling = true;
  return setup;
}

// Notes the order of the runner's calls: F forward, S sample, C collect.
class NotingRunner final : public FakeModelRunner {
 public:
  explicit NotingRunner(bool asynchronous)
      : FakeModelRunner(kFakeVocab, fake_geometry(4, {0}), {200}), asynchronous_(asynchronous) {}
  bool asynchronous() const override { return asynchronous_; }
  Status forward(const Batch& batch) override {
    calls += 'F';
    return FakeModelRunner::forward(batch);
  }
  Status sample(std::span<const SampleRow> rows) override {
    calls += 'S';
    return FakeModelRunner::sample(rows);
  }
  StatusOr<std::vector<SampledToken>> collect() override {
    calls += 'C';
    return FakeModelRunner::collect();
  }
  std::string calls;

 private:
  const bool asynchronous_;
};

std::string calls_of_four_tokens(std::optional<bool> wanted, bool asynchronous) {
  EngineOptions options = EngineSetup::default_options();
  options.async_scheduling = wanted;
  auto made = std::make_unique<NotingRunner>(asynchronous);
  NotingRunner& runner = *made;
  const FakeClock clock;
  Engine engine(options, std::move(made), nullptr, &clock);
  Request request;
  request.id = engine.mint_request_id();
  request.prompt.push_back({{1, 2, 3}});
  request.params.max_tokens = 4;
  request.params.ignore_eos = true;
  const auto sink = std::make_shared<CollectingSink>();
  REQUIRE(engine.submit(std::move(request), sink).ok());
  while (engine.step()) {
  }
  REQUIRE(sink->finished() == 1);
  return runner.calls;
}

}  // namespace

TEST_CASE("with overlap a step is enqueued before the one before it is collected") {
  const std::string alternating = "FSCFSCFSCFSC";
  const std::string overlapped = "FSFCSFCSFCSC";
  CHECK(calls_of_four_tokens(false, true) == alternating);
  CHECK(calls_of_four_tokens(true, false) == overlapped);
  CHECK(calls_of_four_tokens(std::nullopt, false) == alternating);
  CHECK(calls_of_four_tokens(std::nullopt, true) == overlapped);
}

TEST_CASE("a sequence that ends is computed at most once too often and never sampled again") {
  EngineHarness h(overlapping());
  h.model->script = [](TokenId, int position) { return position == 4 ? kFakeEos : 1; };
  Request request = h.request({1, 2, 3}, 50);
  request.params.ignore_eos = false;
  int64_t forwarded = 0;
  h.model->before_forward = [&](const Batch& batch) {
    forwarded += batch.num_tokens();
    return absl::OkStatus();
  };
  const CollectingSink::Answer answer = h.ask(request);
  CHECK(answer.tokens == std::vector<TokenId>{1, 1, kFakeEos});
  CHECK(answer.last.finish_reason == FinishReason::kStop);
  CHECK(answer.last.usage.completion_tokens == 3);
  CHECK(h.model->sampled_rows() == 3);
  CHECK(h.engine->stats().generation_tokens == 3);
  CHECK(forwarded == 3 + 2 + 1);
  CHECK(h.model->overlapped() == 3);
  CHECK(h.engine->load().used_blocks == 0);
}

TEST_CASE("an answer whose length is known is not computed too often") {
  EngineHarness h(overlapping());
  int64_t forwarded = 0;
  h.model->before_forward = [&](const Batch& batch) {
    forwarded += batch.num_tokens();
    return absl::OkStatus();
  };
  CHECK(h.ask(h.request({1, 2, 3}, 5)).tokens.size() == 5);
  CHECK(forwarded == 3 + 4);
}

TEST_CASE("a failure of either step in flight ends everything once") {
  for (const bool in_collect : {false, true}) {
    EngineHarness h(overlapping());
    int calls = 0;
    const auto fail = [&calls] {
      return ++calls == 3 ? absl::InternalError("broken") : absl::OkStatus();
    };
    if (in_collect) {
      h.model->before_collect = fail;
    } else {
      h.model->before_forward = [&fail](const Batch&) { return fail(); };
    }
    std::vector<RequestId> ids;
    for (int i = 0; i < 3; ++i) ids.push_back(h.submit(h.request({1, 2 + i}, 20)));
    h.run();
    for (const RequestId id : ids) {
      CHECK(h.sink->answer(id).last.status.code() == absl::StatusCode::kUnavailable);
      CHECK(h.sink->answer(id).tokens.size() == (in_collect ? 2 : 1));
    }
    CHECK(h.sink->faults() == 0);
    CHECK(h.engine->idle());
    CHECK(h.engine->load().used_blocks == 0);
    CHECK_FALSE(h.engine->health().ok());
  }
}

TEST_CASE("an abort of all that is in flight leaves nothing to collect") {
  EngineHarness h(overlapping());
  const RequestId id = h.submit(h.request({1, 2, 3}, 50));
  h.engine->step();
  h.engine->step();
  h.engine->abort(id);
  CHECK(h.engine->step());
  CHECK_FALSE(h.engine->step());
  CHECK(h.sink->answer(id).last.finish_reason == FinishReason::kAbort);
  // The next one finds the runner as it must be.
  CHECK(h.ask(h.request({4, 5}, 6)).tokens.size() == 6);
  CHECK(h.model->error() == "");
}

TEST_CASE("an engine that goes hands out what was drawn") {
  EngineHarness h(overlapping());
  const RequestId id = h.submit(h.request({1, 2, 3}, 50));
  h.engine->step();
  h.engine->step();
  CHECK(h.sink->answer(id).tokens.size() == 1);
  h.engine.reset();
  CHECK(h.sink->answer(id).tokens.size() == 2);
  CHECK(h.sink->answer(id).last.finish_reason == FinishReason::kAbort);
}

}  // namespace pelton
