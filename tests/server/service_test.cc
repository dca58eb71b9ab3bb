#include "server/inference_service.h"

#include <deque>
#include <functional>
#include <future>
#include <random>

#include "server/output_mapping.h"
#include "tests/support/catch.h"
#include "tests/support/collecting_sink.h"
#include "tests/support/fake_served_model.h"

namespace pelton {
namespace {

// Keeps every output, for those who want to map them.
class KeepingSink final : public OutputSink {
 public:
  void deliver(std::vector<RequestOutput> outputs) override {
    const std::lock_guard lock(mutex_);
    for (RequestOutput& output : outputs) {
      finished_ = finished_ || output.finished();
      outputs_.push_back(std::move(output));
    }
  }
  bool finished() {
    const std::lock_guard lock(mutex_);
    return finished_;
  }
  std::deque<RequestOutput> take() {
    const std::lock_guard lock(mutex_);
    return std::move(outputs_);
  }

 private:
  std::mutex mutex_;
  std::deque<RequestOutput> outputs_;
  bool finished_ = false;
};

struct Fixture {
  explicit Fixture(FakeModelOptions options = {}, InferenceServiceOptions service_options = {}) {
    model = std::make_shared<FakeServedModel>(std::move(options));
    REQUIRE(host.add(model).ok());
    service = std::make_unique<InferenceService>(&host, &clock, service_options);
  }

  CallContext context() const {
    return {.request_id = "cmpl-1", .tenant = "", .deadline = deadline};
  }
  template <typename Req>
  auto start(Req request, std::shared_ptr<OutputSink> to) {
    return service->start(std::move(request), context(), std::move(to));
  }
  // The call whose last output was seen is kept by nobody: everything must be gone.
  bool nothing_left() {
    return eventually([&] { return service->idle(); }) && model->engine().load().used_blocks == 0 &&
           model->engine().load().running_requests == 0 &&
           model->engine().load().waiting_requests == 0;
  }
  // Occupies the only worker until the returned promise is set.
  std::shared_ptr<std::promise<void>> block_worker() {
    auto release = std::make_shared<std::promise<void>>();
    auto running = std::make_shared<std::promise<void>>();
    v1::DetokenizeRequest request;
    REQUIRE(service
                ->detokenize(request,
                             [release, running](const StatusOr<v1::DetokenizeResponse>&) {
                               running->set_value();
                               release->get_future().wait();
                             })
                .ok());
    running->get_future().wait();
    return release;
  }

  SteadyClock clock;
  TimePoint deadline = TimePoint::max();
  std::shared_ptr<FakeServedModel> model;
  ModelHost host;
  std::unique_ptr<InferenceService> service;
};

v1::CompleteRequest ids(int max_tokens) {
  v1::CompleteRequest request;
  for (const char c : {'x', 'y', 'z'}) {
    request.mutable_prompt()->mutable_token_ids()->add_ids(byte_token(c));
  }
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

v1::CompleteRequest text(const std::string& prompt, int max_tokens) {
  v1::CompleteRequest request;
  request.mutable_prompt()->set_text(prompt);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

v1::ChatRequest chat(const std::string& content, int max_tokens) {
  v1::ChatRequest request;
  v1::ChatMessage* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_content()->set_text(content);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

// What a text becomes: the status of the call, however late it comes.
Status outcome(Fixture& f, v1::CompleteRequest request) {
  const auto sink = std::make_shared<CollectingSink>();
  const auto call = f.start(std::move(request), sink);
  if (!call.ok()) return call.status();
  REQUIRE(eventually([&] { return sink->finished() == 1; }));
  return sink->answer((*call)->id()).last.status;
}

}  // namespace

TEST_CASE("ids and text and a chat are answered by the real engine") {
  Fixture f;
  const auto sink = std::make_shared<CollectingSink>();
  auto by_ids = f.start(ids(5), sink).value();
  auto by_text = f.start(text("xyz", 5), sink).value();
  auto by_chat = f.start(chat("hello", 5), sink).value();
  REQUIRE(eventually([&] { return sink->finished() == 3; }));
  CHECK(sink->faults() == 0);
  CHECK(sink->answer(by_ids->id()).text == "cdefg");
  CHECK(sink->answer(by_text->id()).text == "defgh");  // <s> before the text
  CHECK(sink->answer(by_text->id()).last.usage.prompt_tokens == 4);
  const auto last = sink->answer(by_chat->id()).last;
  INFO(last.status);
  CHECK(last.usage.prompt_tokens == 1 + 12 + 11);  // <s>[user]hello\n[assistant]
  CHECK(last.finish_reason == FinishReason::kLength);
  by_ids = by_text = by_chat = nullptr;
  CHECK(f.nothing_left());
}

TEST_CASE("a stream put together equals the unary answer") {
  Fixture f;
  auto request = text("hello", 12);
  request.set_return_token_ids(true);
  request.mutable_sampling()->set_logprobs(2);
  request.mutable_sampling()->set_prompt_logprobs(1);
  request.mutable_sampling()->add_stop("pq");
  const auto run = [&](auto map) {
    const auto sink = std::make_shared<KeepingSink>();
    const auto call = f.start(request, sink).value();
    REQUIRE(eventually([&] { return sink->finished(); }));
    for (const RequestOutput& output : sink->take()) map(*call, output);
  };
  v1::CompleteResponse unary;
  run([&](Call& call, const RequestOutput& output) { call.accumulate(output, &unary); });

  v1::CompleteResponse joined;
  int messages = 0;
  run([&](Call& call, const RequestOutput& output) {
    v1::CompleteStreamResponse message;
    call.fill(output, &message);
    REQUIRE(message.choices_size() == 1);
    CHECK((messages++ == 0) == !message.prompt_token_ids().empty());
    CHECK(message.has_timing() == output.finished());
    const std::string before = joined.choices().empty() ? "" : joined.choices(0).text();
    auto* choice = joined.choices().empty() ? joined.add_choices() : joined.mutable_choices(0);
    choice->MergeFrom(message.choices(0));
    choice->set_text(before + message.choices(0).text());
    joined.mutable_prompt_token_ids()->MergeFrom(message.prompt_token_ids());
    joined.mutable_prompt_logprobs()->MergeFrom(message.prompt_logprobs());
    *joined.mutable_usage() = message.usage();
  });
  CHECK(messages > 3);
  CHECK(unary.id() == "cmpl-1");
  CHECK(unary.model() == "fake");
  CHECK(unary.choices(0).text() == "fghijklmno");
  CHECK(unary.choices(0).finish_reason() == v1::FINISH_REASON_STOP);
  CHECK(unary.choices(0).stop_string() == "pq");
  CHECK(unary.choices(0).logprobs(0).chosen().token() == "f");
  CHECK(unary.choices(0).logprobs(0).top_size() == 2);
  CHECK(unary.choices(0).logprobs_size() == unary.choices(0).token_ids_size());
  CHECK(unary.prompt_token_ids_size() == 6);
  CHECK(unary.prompt_logprobs_size() == 5);
  CHECK(unary.has_timing());
  CHECK(joined.choices(0).SerializeAsString() == unary.choices(0).SerializeAsString());
  CHECK(joined.prompt_token_ids_size() == unary.prompt_token_ids_size());
  CHECK(joined.prompt_logprobs_size() == unary.prompt_logprobs_size());
  CHECK(joined.usage().completion_tokens() == unary.usage().completion_tokens());
}

TEST_CASE("a chat's first message alone has the role and its text is one part") {
  Fixture f;
  const auto sink = std::make_shared<KeepingSink>();
  const auto call = f.start(chat("hi", 4), sink).value();
  REQUIRE(eventually([&] { return sink->finished(); }));
  bool first = true;
  v1::ChatResponse unary;
  std::string streamed;
  for (const RequestOutput& output : sink->take()) {
    v1::ChatStreamResponse message;
    call->fill(output, &message);
    const v1::ChatMessage& delta = message.choices(0).message();
    CHECK((delta.role() == v1::ROLE_ASSISTANT) == first);
    if (delta.content_size() > 0) streamed += delta.content(0).text();
    call->accumulate(output, &unary);
    first = false;
  }
  CHECK(streamed.size() == 4);
  REQUIRE(unary.choices(0).message().content_size() == 1);
  CHECK(unary.choices(0).message().content(0).text() == streamed);
}

TEST_CASE("outputs merged in any way map to the same answer") {
  std::mt19937 rng(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<RequestOutput> outputs;
    for (int i = 0; i < 8; ++i) {
      RequestOutput output;
      output.tokens = {i, i + 1};
      output.text = std::to_string(i);
      output.logprobs.resize(2);
      if (i == 0) output.prompt_logprobs.resize(3);
      output.usage.completion_tokens = 2 * i + 2;
      if (i == 7) {
        output.finish_reason = FinishReason::kStop;
        output.stop_token = 8;
      }
      outputs.push_back(output);
    }
    ModelFacts facts;
    const auto answer = [&](const std::vector<RequestOutput>& all) {
      OutputMapper mapper("id", facts, nullptr, 0, true);
      v1::CompleteResponse response;
      for (const RequestOutput& output : all) mapper.add(output, &response);
      return response.SerializeAsString();
    };
    std::vector<RequestOutput> merged;
    for (const RequestOutput& output : outputs) {
      if (!merged.empty() && rng() % 2 == 0) {
        merge_output(merged.back(), RequestOutput(output));
      } else {
        merged.push_back(output);
      }
    }
    CHECK(answer(merged) == answer(outputs));
  }
}

TEST_CASE("a cancel ends a call once in every phase and leaves nothing") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 1;
  Fixture f(options);
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
  Fixture f(options);
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
  Fixture f(options, {.tokenizer_threads = 2, .max_tokenizing_requests = 2000});
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
  Fixture f({},
            {.tokenizer_threads = 1, .max_tokenizing_requests = 3, .max_tokenizing_bytes = 1000});
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
  Fixture f(options);
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

TEST_CASE("errors that only the tokenizer finds end the call with their status") {
  Fixture f;
  CHECK(outcome(f, text("hello", 5)).ok());
  auto empty = text("", 5);
  empty.set_add_special_tokens(false);
  CHECK(error_field(outcome(f, empty)) == "prompt");
  const Status long_text = outcome(f, text(std::string(511, 'x'), 1));
  CHECK(error_reason(long_text) == "CONTEXT_LENGTH_EXCEEDED");
  const Status long_answer = outcome(f, text(std::string(505, 'x'), 100));
  CHECK(error_reason(long_answer) == "CONTEXT_LENGTH_EXCEEDED");
  CHECK(error_field(long_answer) == "sampling.max_tokens");

  const auto sink = std::make_shared<CollectingSink>();
  auto request = chat("hi", 5);
  v1::Tool* tool = request.add_tools();
  tool->set_name("f");
  request.mutable_tool_choice()->set_mode(v1::TOOL_CHOICE_MODE_NONE);
  for (const char* bad : {"[]", "{", "{} x", "null", "{\"a\": 01}"}) {
    CAPTURE(bad);
    tool->set_parameters_json(bad);
    const auto call = f.start(request, sink).value();
    REQUIRE(eventually([&] { return sink->answer(call->id()).last.finished(); }));
    CHECK(error_field(sink->answer(call->id()).last.status) == "tools[0].parameters_json");
  }
  tool->set_parameters_json("{\"z\": 1.50, \"a\": 12345678901234567890123}");
  v1::TokenizeRequest tokenize;
  *tokenize.mutable_chat() = request;
  std::promise<StatusOr<v1::TokenizeResponse>> done;
  REQUIRE(f.service->tokenize(tokenize, [&](auto result) { done.set_value(result); }).ok());
  CHECK(done.get_future().get().ok());
  CHECK(f.nothing_left());
}

TEST_CASE("tokenize and detokenize are inverse and answer on the pool") {
  Fixture f;
  v1::TokenizeRequest request;
  request.set_text("h\xc3\xa4 \xf0\x9f\x8e\x89");
  request.set_return_token_strings(true);
  std::promise<StatusOr<v1::TokenizeResponse>> done;
  REQUIRE(f.service->tokenize(request, [&](auto result) { done.set_value(result); }).ok());
  const auto response = done.get_future().get().value();
  CHECK(response.token_ids_size() == 1 + 3 + 1 + 4);
  CHECK(response.token_strings_size() == response.token_ids_size());
  CHECK(response.token_strings(0) == "<s>");
  CHECK(response.max_model_len() == 512);

  v1::DetokenizeRequest back;
  *back.mutable_token_ids() = response.token_ids();
  back.set_skip_special_tokens(true);
  std::promise<StatusOr<v1::DetokenizeResponse>> text_done;
  REQUIRE(f.service->detokenize(back, [&](auto result) { text_done.set_value(result); }).ok());
  CHECK(text_done.get_future().get()->text() == request.text());

  back.add_token_ids(kFakeVocab);
  CHECK(error_field(f.service->detokenize(back, [](const auto&) {})) == "token_ids");
  request.set_model("nobody");
  CHECK(error_reason(f.service->tokenize(request, [](const auto&) {})) == "MODEL_NOT_FOUND");
}

TEST_CASE("a drain refuses what is new and lets what runs end") {
  Fixture f;
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

TEST_CASE("a failed device makes the service not ready and its requests end with an error") {
  Fixture f;
  CHECK(f.service->ready());
  f.model->fail_device(absl::InternalError("sticky"));
  const Status status = outcome(f, ids(5));
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(eventually([&] { return !f.service->ready(); }));
  CHECK_FALSE(f.start(ids(5), std::make_shared<CollectingSink>()).ok());
}

TEST_CASE("a step that never ends makes the service not ready") {
  Fixture f({}, {.stalled_after = std::chrono::milliseconds(50)});
  CHECK(f.service->ready());
  f.model->gate.close();
  const auto sink = std::make_shared<CollectingSink>();
  auto call = f.start(ids(5), sink).value();
  CHECK(eventually([&] { return !f.service->ready(); }));
  f.model->gate.open();
  CHECK(eventually([&] { return f.service->ready(); }));
}

TEST_CASE("a model without text takes ids and says so otherwise") {
  FakeModelOptions options;
  options.text = false;
  Fixture f(options);
  CHECK(outcome(f, ids(5)).ok());
  CHECK(error_field(outcome(f, text("x", 5))) == "prompt.text");
  const auto model = f.service->get_model("fake").value();
  REQUIRE(model.capabilities_size() == 1);
  CHECK(model.capabilities(0) == v1::CAPABILITY_COMPLETE);
}

TEST_CASE("models are found by name and what is not built is refused after validation") {
  Fixture f;
  CHECK(f.service->list_models().models_size() == 1);
  CHECK(f.service->get_model("fake")->capabilities_size() == 3);
  CHECK(error_reason(f.service->get_model("x").status()) == "MODEL_NOT_FOUND");
  CHECK_FALSE(f.host.add(std::make_shared<FakeServedModel>()).ok());
  auto request = ids(1);
  request.set_model("x");
  CHECK(outcome(f, request).code() == absl::StatusCode::kNotFound);

  v1::EmbedRequest embed;
  CHECK(f.service->embed(embed).code() == absl::StatusCode::kInvalidArgument);
  embed.add_inputs()->set_text("x");
  CHECK(f.service->embed(embed).code() == absl::StatusCode::kUnimplemented);
  v1::RerankRequest rerank;
  rerank.set_query("q");
  rerank.add_documents("d");
  CHECK(f.service->rerank(rerank).code() == absl::StatusCode::kUnimplemented);
  v1::ClassifyRequest classify;
  classify.add_inputs()->set_text("x");
  CHECK(f.service->classify(classify).code() == absl::StatusCode::kUnimplemented);
}

TEST_CASE("latencies and ends are observed as the outputs are mapped") {
  Fixture f;
  const auto sink = std::make_shared<KeepingSink>();
  auto call = f.start(ids(10), sink).value();
  REQUIRE(eventually([&] { return sink->finished(); }));
  v1::CompleteResponse response;
  for (const RequestOutput& output : sink->take()) call->accumulate(output, &response);
  CHECK(f.model->counts.first_tokens == 1);
  CHECK(f.model->counts.gaps == 9);
  CHECK(f.model->counts.finished == 1);
  auto left = f.start(ids(400), std::make_shared<KeepingSink>()).value();
  left->cancel();
  left = nullptr;  // the front end went away without its last output
  CHECK(eventually([&] { return f.model->counts.aborted == 1; }));
}

}  // namespace pelton
