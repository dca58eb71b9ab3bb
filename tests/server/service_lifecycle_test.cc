// How requests end other than by their answer: cancels, deadlines, full queues, drains, failures.
#include <future>
#include <random>
#include <thread>

#include "tests/support/service_fixture.h"

namespace pelton {

TEST_CASE("a cancel ends a call once in every phase and leaves nothing") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 1;
  ServiceFixture f(options);
  const auto sink = std::make_shared<CollectingSink>();

  SECTION("while it waits for the tokenizer") {
    const auto release = f.block_worker();
    const auto call = f.start(text("xyz", 5), sink).value();
    call->cancel();
    CHECK(sink->finished() == 1);  // at once, though the worker is stuck
    call->cancel();
    release->set_value();
    CHECK(sink->answer(call->id()).last.finish_reason == FinishReason::kAbort);
    CHECK(sink->answer(call->id()).tokens.empty());
  }
  SECTION("queued behind another") {
    f.model->gate.close();
    const auto first = f.start(ids(400), sink).value();
    const auto call = f.start(ids(5), sink).value();
    call->cancel();
    first->cancel();
    f.model->gate.open();
    REQUIRE(eventually([&] { return sink->finished() == 2; }));
    CHECK(sink->answer(call->id()).last.finish_reason == FinishReason::kAbort);
    CHECK(sink->answer(call->id()).tokens.empty());
  }
  SECTION("in its prefill") {
    f.model->gate.close();
    const auto call = f.start(ids(400), sink).value();
    REQUIRE(eventually([&] { return f.model->gate.holds_one(); }));
    call->cancel();
    f.model->gate.open();
    REQUIRE(eventually([&] { return sink->finished() == 1; }));
    CHECK(sink->answer(call->id()).last.finish_reason == FinishReason::kAbort);
    CHECK(sink->answer(call->id()).tokens.size() <= 2);
  }
  SECTION("while it decodes") {
    f.model->gate.close();
    const auto call = f.start(ids(400), sink).value();
    f.model->gate.open();
    REQUIRE(eventually([&] { return sink->answer(call->id()).outputs > 0; }));
    call->cancel();
    REQUIRE(eventually([&] { return sink->finished() == 1; }));
  }
  CHECK(sink->faults() == 0);
  CHECK(f.nothing_left());
}

TEST_CASE("a deadline ends a call once in every phase") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 1;
  options.engine.max_model_len = 4000;
  options.step_time = std::chrono::milliseconds(2);
  ServiceFixture f(options);
  const auto sink = std::make_shared<CollectingSink>();
  const auto expired = [&](const std::shared_ptr<Call>& call) {
    const RequestOutput last = sink->answer(call->id()).last;
    CHECK(last.finish_reason == FinishReason::kAbort);
    CHECK(last.status.code() == absl::StatusCode::kDeadlineExceeded);
  };

  SECTION("before it begins") {
    f.deadline = f.clock.now();
    const auto call = f.start(ids(5), sink);
    CHECK(call.status().code() == absl::StatusCode::kDeadlineExceeded);
    CHECK(error_reason(call.status()) == "DEADLINE_EXCEEDED");
  }
  SECTION("while it waits for the tokenizer") {
    const auto release = f.block_worker();
    f.deadline = f.clock.now() + std::chrono::milliseconds(20);
    const auto call = f.start(text("xyz", 5), sink).value();
    REQUIRE(eventually([&] { return sink->finished() == 1; }));  // though the worker is stuck
    expired(call);
    release->set_value();
  }
  SECTION("queued behind another") {
    const auto first = f.start(ids(3000), sink).value();
    f.deadline = f.clock.now() + std::chrono::milliseconds(20);
    const auto call = f.start(ids(5), sink).value();
    REQUIRE(eventually([&] { return sink->finished() == 1; }));
    expired(call);
    first->cancel();
    REQUIRE(eventually([&] { return sink->finished() == 2; }));
  }
  SECTION("while it decodes") {
    f.deadline = f.clock.now() + std::chrono::milliseconds(50);
    const auto call = f.start(ids(3000), sink).value();
    REQUIRE(eventually([&] { return sink->finished() == 1; }));
    expired(call);
  }
  CHECK(sink->faults() == 0);
  CHECK(f.nothing_left());
}

TEST_CASE("a thousand cancels at random moments leave nothing behind") {
  FakeModelOptions options;
  options.engine.max_waiting_requests = 2000;
  ServiceFixture f(options, {.tokenizer_threads = 2, .max_tokenizing_requests = 2000});
  std::mt19937 rng(3);
  const auto sink = std::make_shared<CollectingSink>();
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 1000; ++i) {
    auto call = i % 3 == 0   ? f.start(ids(100), sink)
                : i % 3 == 1 ? f.start(text("some text", 100), sink)
                             : f.start(chat("some text", 100), sink);
    REQUIRE(call.ok());
    calls.push_back(*std::move(call));
    if (rng() % 2 == 0) calls[rng() % calls.size()]->cancel();
    if (rng() % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (const auto& call : calls) call->cancel();
  REQUIRE(eventually([&] { return sink->finished() == 1000; }));
  CHECK(sink->faults() == 0);
  calls.clear();
  CHECK(f.nothing_left());
  CHECK(sink->finished() == 1000);
}

TEST_CASE("what can not be tokenised now is refused before any work with a time to come back") {
  ServiceFixture f(
      {}, {.tokenizer_threads = 1, .max_tokenizing_requests = 3, .max_tokenizing_bytes = 1000});
  const auto release = f.block_worker();
  const auto sink = std::make_shared<CollectingSink>();
  const auto refused = [&](const Status& status) {
    CHECK(status.code() == absl::StatusCode::kResourceExhausted);
    CHECK(error_reason(status) == "OVERLOADED");
    CHECK(error_retry_after(status).has_value());
  };
  SECTION("too many") {
    CHECK(f.start(text("a", 1), sink).ok());
    CHECK(f.start(chat("b", 1), sink).ok());
    refused(f.start(text("c", 1), sink).status());
    refused(f.service->tokenize({}, [](const auto&) {}).ok()
                ? absl::OkStatus()
                : f.start(chat("d", 1), sink).status());
    CHECK(f.start(ids(1), sink).ok());  // needs no tokenizer
  }
  SECTION("too many bytes") {
    CHECK(f.start(text(std::string(400, 'a'), 1), sink).ok());
    refused(f.start(text(std::string(700, 'b'), 1), sink).status());
    CHECK(f.start(text("c", 1), sink).ok());
  }
  release->set_value();
  CHECK(f.nothing_left());
}

TEST_CASE("a text is refused before it is tokenised when the engine's queue is full") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 1;
  options.engine.max_waiting_requests = 2;
  ServiceFixture f(options);
  f.model->gate.close();
  const auto sink = std::make_shared<CollectingSink>();
  std::vector<std::shared_ptr<Call>> calls;
  Status status;
  for (int i = 0; i < 10 && status.ok(); ++i) {
    auto call = f.start(ids(100), sink);
    status = call.status();
    if (call.ok()) calls.push_back(*std::move(call));
  }
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  const Status text_status = f.start(text("x", 1), sink).status();
  CHECK(text_status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(error_retry_after(text_status).has_value());
  f.model->gate.open();
  for (const auto& call : calls) call->cancel();
  calls.clear();
  CHECK(f.nothing_left());
}

TEST_CASE("a drain refuses what is new and lets what runs end") {
  ServiceFixture f;
  f.model->gate.close();
  const auto sink = std::make_shared<CollectingSink>();
  auto running = f.start(ids(20), sink).value();
  auto preparing = f.start(text("abc", 20), sink).value();
  CHECK(f.service->ready());
  f.service->drain();
  CHECK_FALSE(f.service->ready());
  CHECK_FALSE(f.service->idle());
  const Status refused = f.start(ids(1), sink).status();
  CHECK(refused.code() == absl::StatusCode::kUnavailable);
  CHECK(error_reason(refused) == "DRAINING");
  f.model->gate.open();
  REQUIRE(eventually([&] { return sink->finished() == 2; }));
  CHECK(sink->answer(running->id()).tokens.size() == 20);
  CHECK(sink->answer(preparing->id()).tokens.size() == 20);
  running = preparing = nullptr;
  CHECK(f.nothing_left());
}

TEST_CASE("a drain that is over ends what runs and what is tokenised with its reason") {
  FakeModelOptions slow;
  slow.step_time = std::chrono::milliseconds(5);
  ServiceFixture f(slow);
  f.model->gate.close();
  const auto sink = std::make_shared<CollectingSink>();
  auto running = f.start(ids(500), sink).value();
  auto preparing = f.start(text("abc", 20), sink).value();
  f.service->end_all();
  CHECK(error_reason(f.start(ids(1), sink).status()) == "DRAINING");
  f.model->gate.open();
  REQUIRE(eventually([&] { return sink->finished() == 2; }));
  for (const auto& call : {running, preparing}) {
    CHECK(sink->answer(call->id()).last.status.code() == absl::StatusCode::kUnavailable);
    CHECK(error_reason(sink->answer(call->id()).last.status) == "DRAINING");
  }
  running = preparing = nullptr;
  CHECK(f.nothing_left());
}

TEST_CASE("a drain and an exit and a client's leaving hold for the tokenizer too") {
  ServiceFixture f({}, {.max_tokenizing_requests = 1000});
  const auto release = f.block_worker();
  v1::TokenizeRequest request;
  request.set_text("abc");
  Status unwanted;
  std::vector<Status> ends;
  std::promise<void> exiting, first;
  const std::shared_future<void> begun = exiting.get_future().share();
  REQUIRE(f.service
              ->tokenize(
                  request, [&](const auto& result) { unwanted = result.status(); },
                  [] { return false; })
              .ok());
  for (int i = 0; i < 200; ++i) {
    REQUIRE(f.service
                ->tokenize(request,
                           [&, begun](const auto& result) {
                             ends.push_back(result.status());
                             if (ends.size() == 1) first.set_value();
                             begun.wait();
                             std::this_thread::sleep_for(std::chrono::milliseconds(1));
                           })
                .ok());
  }
  f.service->drain();
  CHECK(error_reason(f.service->tokenize(request, [](const auto&) {})) == "DRAINING");
  CHECK(error_reason(f.service->detokenize({}, [](const auto&) {})) == "DRAINING");
  release->set_value();
  first.get_future().wait();
  exiting.set_value();
  f.service = nullptr;
  CHECK(unwanted.code() == absl::StatusCode::kCancelled);
  REQUIRE(ends.size() == 200);
  CHECK(ends.front().ok());  // a drain lets end what was taken
  CHECK(error_reason(ends.back()) == "DRAINING");
}

TEST_CASE("a failed device makes the service not ready and its requests end with an error") {
  ServiceFixture f;
  CHECK(f.service->ready());
  f.model->fail_device(absl::InternalError("sticky"));
  const Status status = outcome(f, ids(5));
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(eventually([&] { return !f.service->ready(); }));
  CHECK_FALSE(f.start(ids(5), std::make_shared<CollectingSink>()).ok());
}

TEST_CASE("a step that never ends makes the service not ready") {
  ServiceFixture f({}, {.stalled_after = std::chrono::milliseconds(50)});
  CHECK(f.service->ready());
  f.model->gate.close();
  const auto sink = std::make_shared<CollectingSink>();
  auto call = f.start(ids(5), sink).value();
  CHECK(eventually([&] { return !f.service->ready(); }));
  f.model->gate.open();
  CHECK(eventually([&] { return f.service->ready(); }));
}

TEST_CASE("a step that takes far longer than those before it is stuck and a first one is not") {
  ServiceFixture f({}, {.stalled_at_least = std::chrono::milliseconds(20)});
  for (const bool first : {true, false}) {
    f.model->gate.close();
    const auto sink = std::make_shared<CollectingSink>();
    auto call = f.start(ids(5), sink).value();
    if (first) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      CHECK(f.service->ready());
    } else {
      CHECK(eventually([&] { return !f.service->ready(); }));
    }
    f.model->gate.open();
    CHECK(eventually([&] { return sink->finished() == 1; }));
    CHECK(eventually([&] { return f.service->ready(); }));
  }
}

}  // namespace pelton
