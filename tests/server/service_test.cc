// What the service core answers. How requests end otherwise: service_lifecycle_test.cc.
#include <future>
#include <random>

#include "core/utf8.h"
#include "server/output_mapping.h"
#include "tests/support/service_fixture.h"

namespace pelton {

TEST_CASE("ids and text and a chat are answered by the real engine") {
  ServiceFixture f;
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
  ServiceFixture f;
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
  ServiceFixture f;
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

TEST_CASE("errors that only the tokenizer finds end the call with their status") {
  ServiceFixture f;
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
  ServiceFixture f;
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

TEST_CASE("a model without text takes ids and says so otherwise") {
  FakeModelOptions options;
  options.text = false;
  ServiceFixture f(options);
  CHECK(outcome(f, ids(5)).ok());
  CHECK(error_field(outcome(f, text("x", 5))) == "prompt.text");
  const auto model = f.service->get_model("fake").value();
  REQUIRE(model.capabilities_size() == 1);
  CHECK(model.capabilities(0) == v1::CAPABILITY_COMPLETE);
}

TEST_CASE("models are found by name and what is not built is refused after validation") {
  ServiceFixture f;
  CHECK(f.service->list_models().models_size() == 1);
  CHECK(f.service->get_model("fake")->capabilities_size() == 3);
  CHECK(error_reason(f.service->get_model("x").status()) == "MODEL_NOT_FOUND");
  for (const char* part : {"\xe2\x82\xac", "\xff", "m"}) {
    std::string name;
    for (int i = 0; i < 100'000; ++i) name += part;
    const Status status = f.host.find(name).status();
    CHECK(status.message().size() < 160);
    CHECK(is_well_formed_utf8(std::string(status.message())));
    CHECK(error_reason(status) == "MODEL_NOT_FOUND");
  }
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
  ServiceFixture f;
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

TEST_CASE("an end without a message is observed once") {
  ServiceFixture f;
  const auto sink = std::make_shared<KeepingSink>();
  auto call = f.start(ids(3), sink).value();
  REQUIRE(eventually([&] { return sink->finished(); }));
  RequestOutput last = sink->take().back();
  call->note_end(last);
  call->note_end(last);
  CHECK(f.model->counts.finished == 1);
  call = nullptr;
  CHECK(f.model->counts.finished == 1);
  CHECK(f.model->counts.aborted == 0);
}

}  // namespace pelton
