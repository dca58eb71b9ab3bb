#include <future>
#include <random>
#include <thread>

#include "tests/support/block_worker.h"
#include "tests/support/grpc_fixture.h"

namespace pelton {
namespace {

using grpc::StatusCode;

v1::CompleteRequest prompt(int max_tokens) {
  v1::CompleteRequest request;
  request.mutable_prompt()->set_text("xyz");
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

v1::ChatRequest chat(int max_tokens) {
  v1::ChatRequest request;
  v1::ChatMessage* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_content()->set_text("hello");
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

grpc::Status complete(GrpcFixture& f, const v1::CompleteRequest& request,
                      v1::CompleteResponse* response = nullptr) {
  grpc::ClientContext context;
  v1::CompleteResponse ignored;
  return f.inference->Complete(&context, request, response == nullptr ? &ignored : response);
}

struct Streamed {
  grpc::Status status;
  std::string text;
  int messages = 0;
  v1::CompleteStreamResponse last;
};
Streamed read_all(grpc::ClientReader<v1::CompleteStreamResponse>& reader) {
  Streamed out;
  v1::CompleteStreamResponse message;
  while (reader.Read(&message)) {
    ++out.messages;
    out.text += message.choices(0).text();
    out.last = message;
  }
  out.status = reader.Finish();
  return out;
}

}  // namespace

TEST_CASE("gRPC answers Complete and Chat unary and streamed alike") {
  GrpcFixture f;
  v1::CompleteResponse whole;
  REQUIRE(complete(f, prompt(10), &whole).ok());
  CHECK(whole.choices(0).text() == "defghijklm");
  CHECK(whole.choices(0).finish_reason() == v1::FINISH_REASON_LENGTH);
  CHECK(whole.usage().prompt_tokens() == 4);
  CHECK(whole.usage().completion_tokens() == 10);
  CHECK(whole.id().find("cmpl-") == 0);
  CHECK(whole.id().size() > 30);

  grpc::ClientContext context;
  const auto reader = f.inference->CompleteStream(&context, prompt(10));
  const Streamed streamed = read_all(*reader);
  CHECK(streamed.status.ok());
  CHECK(streamed.text == whole.choices(0).text());
  CHECK(streamed.last.choices(0).finish_reason() == v1::FINISH_REASON_LENGTH);
  CHECK(streamed.last.usage().completion_tokens() == 10);
  CHECK(streamed.last.id() != whole.id());

  grpc::ClientContext chat_context;
  v1::ChatResponse answer;
  REQUIRE(f.inference->Chat(&chat_context, chat(5), &answer).ok());
  CHECK(answer.choices(0).message().role() == v1::ROLE_ASSISTANT);
  grpc::ClientContext stream_context;
  const auto chat_reader = f.inference->ChatStream(&stream_context, chat(5));
  std::string text;
  v1::ChatStreamResponse delta;
  while (chat_reader->Read(&delta)) {
    for (const auto& part : delta.choices(0).message().content()) text += part.text();
  }
  CHECK(chat_reader->Finish().ok());
  CHECK(text == answer.choices(0).message().content(0).text());
  CHECK(f.nothing_left());
}

TEST_CASE("many streams over several loops each get their own answer") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 32;
  GrpcFixture f(options, {}, 2);
  std::vector<std::thread> clients;
  std::atomic<int> good = 0;
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] {
      for (int round = 0; round < 4; ++round) {
        auto request = prompt(40 + i);
        request.mutable_prompt()->set_text(std::string(static_cast<size_t>(i) + 1, 'q'));
        grpc::ClientContext context;
        const auto reader = f.inference->CompleteStream(&context, request);
        const Streamed streamed = read_all(*reader);
        const bool right = streamed.text.size() == static_cast<size_t>(40 + i) &&
                           streamed.text[0] == 'a' + (i + 1) % 26;
        good += streamed.status.ok() && right;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(good == 64);
  CHECK(f.nothing_left());
}

TEST_CASE("gRPC errors carry reason and field and time to retry") {
  GrpcFixture f;
  auto bad = prompt(5);
  bad.mutable_sampling()->set_top_p(2);
  grpc::Status status = complete(f, bad);
  CHECK(status.error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK(reason(status) == "INVALID_FIELD");
  CHECK(bad_field(status) == "sampling.top_p");
  CHECK(status.error_message() == "sampling.top_p: must be in (0, 1]");

  grpc::ClientContext stream_context;
  const auto reader = f.inference->CompleteStream(&stream_context, bad);
  CHECK(bad_field(read_all(*reader).status) == "sampling.top_p");

  auto unbuilt = prompt(5);
  unbuilt.set_echo(true);
  status = complete(f, unbuilt);
  CHECK(status.error_code() == StatusCode::UNIMPLEMENTED);
  CHECK(reason(status) == "UNSUPPORTED_PARAMETER");
  CHECK(bad_field(status) == "echo");

  auto late = prompt(1);  // found by the tokenizer only
  late.mutable_prompt()->set_text(std::string(600, 'x'));
  CHECK(reason(complete(f, late)) == "CONTEXT_LENGTH_EXCEEDED");

  auto unknown = prompt(1);
  unknown.set_model("nobody");
  status = complete(f, unknown);
  CHECK(status.error_code() == StatusCode::NOT_FOUND);
  CHECK(reason(status) == "MODEL_NOT_FOUND");

  for (const auto& refused : {[&] {
         grpc::ClientContext context;
         v1::EmbedResponse response;
         v1::EmbedRequest request;
         request.add_inputs()->set_text("x");
         return f.inference->Embed(&context, request, &response);
       }()}) {
    CHECK(refused.error_code() == StatusCode::UNIMPLEMENTED);
    CHECK(reason(refused) == "UNSUPPORTED_PARAMETER");
  }
  CHECK(f.nothing_left());
}

TEST_CASE("gRPC says when to come back while the queue is full") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 1;
  options.engine.max_waiting_requests = 1;
  GrpcFixture f(options);
  f.model->gate.close();
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::CompleteStreamResponse>>> readers;
  grpc::Status status;
  for (int i = 0; i < 20 && status.ok(); ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    contexts.back()->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    readers.push_back(f.inference->CompleteStream(contexts.back().get(), prompt(5)));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (i < 3) continue;
    status = complete(f, [] {
      auto request = prompt(5);
      request.mutable_prompt()->mutable_token_ids()->add_ids(5);
      return request;
    }());
  }
  CHECK(status.error_code() == StatusCode::RESOURCE_EXHAUSTED);
  CHECK(reason(status) == "OVERLOADED");
  const auto retry = detail<google::rpc::RetryInfo>(status);
  REQUIRE(retry.has_value());
  CHECK(retry->retry_delay().seconds() + retry->retry_delay().nanos() > 0);
  f.model->gate.open();
  for (const auto& context : contexts) context->TryCancel();
  readers.clear();
  CHECK(f.nothing_left());
}

TEST_CASE("a client's cancel and deadline end its request in every phase") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 1;
  options.engine.max_model_len = 4000;
  options.step_time = std::chrono::milliseconds(1);
  GrpcFixture f(options);
  const bool by_deadline = GENERATE(false, true);
  CAPTURE(by_deadline);
  const auto end = [&](grpc::ClientContext& context) {
    if (!by_deadline) context.TryCancel();
  };
  const auto expected = by_deadline ? StatusCode::DEADLINE_EXCEEDED : StatusCode::CANCELLED;
  const auto set_deadline = [&](grpc::ClientContext& context) {
    if (!by_deadline) return;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  };

  SECTION("decoding") {
    grpc::ClientContext context;
    set_deadline(context);
    const auto reader = f.inference->CompleteStream(&context, prompt(3900));
    v1::CompleteStreamResponse message;
    const bool begun = reader->Read(&message);
    if (!by_deadline) REQUIRE(begun);  // a slow machine may see the deadline first
    end(context);
    CHECK(read_all(*reader).status.error_code() == expected);
  }
  SECTION("queued") {
    grpc::ClientContext first_context;
    const auto first = f.inference->CompleteStream(&first_context, prompt(3900));
    v1::CompleteStreamResponse message;
    REQUIRE(first->Read(&message));
    grpc::ClientContext context;
    set_deadline(context);
    const auto reader = f.inference->CompleteStream(&context, prompt(5));
    end(context);
    CHECK(read_all(*reader).status.error_code() == expected);
    first_context.TryCancel();
    CHECK(read_all(*first).status.error_code() == StatusCode::CANCELLED);
  }
  SECTION("in its prefill") {
    f.model->gate.close();
    grpc::ClientContext context;
    set_deadline(context);
    const auto reader = f.inference->CompleteStream(&context, prompt(3900));
    if (!by_deadline) REQUIRE(eventually([&] { return f.model->gate.holds_one(); }));
    end(context);
    CHECK(read_all(*reader).status.error_code() == expected);
    f.model->gate.open();
  }
  SECTION("tokenising") {
    const auto release = block_worker(*f.service);
    grpc::ClientContext context;
    set_deadline(context);
    const auto reader = f.inference->CompleteStream(&context, prompt(5));
    end(context);
    CHECK(read_all(*reader).status.error_code() == expected);
    release->set_value();
  }
  SECTION("unary") {
    grpc::ClientContext context;
    set_deadline(context);
    std::thread canceller([&] {
      f.model->gate.holds_one();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      end(context);
    });
    v1::CompleteResponse response;
    CHECK(f.inference->Complete(&context, prompt(3900), &response).error_code() == expected);
    canceller.join();
  }
  CHECK(f.nothing_left());
}

TEST_CASE("a thousand gRPC cancels at random moments leave nothing behind") {
  FakeModelOptions options;
  options.engine.max_waiting_requests = 2000;
  options.engine.max_num_seqs = 16;
  GrpcFixture f(options, {}, 2);
  std::vector<std::thread> clients;
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&, c] {
      std::mt19937 rng(static_cast<unsigned>(c));
      for (int i = 0; i < 250; ++i) {
        grpc::ClientContext context;
        const auto reader = f.inference->CompleteStream(&context, prompt(200));
        v1::CompleteStreamResponse message;
        for (int reads = static_cast<int>(rng() % 4); reads > 0 && reader->Read(&message);) --reads;
        if (rng() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(rng() % 500));
        context.TryCancel();
        reader->Finish();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(f.nothing_left());
}

TEST_CASE("tokens merge while a client does not read and none is lost") {
  FakeModelOptions options;
  options.engine.max_model_len = 8000;
  GrpcFixture f(options);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4096);
  f.connect(arguments);
  grpc::ClientContext context;
  const auto reader = f.inference->CompleteStream(&context, prompt(7900));
  v1::CompleteStreamResponse message;
  REQUIRE(reader->Read(&message));
  // The engine is not held up by this reader.
  REQUIRE(eventually([&] { return f.model->engine().idle(); }));
  const std::string begun = message.choices(0).text();
  const Streamed streamed = read_all(*reader);
  CHECK(streamed.status.ok());
  CHECK(begun.size() + streamed.text.size() == 7900);
  CHECK(streamed.messages < 4000);
  CHECK(streamed.last.usage().completion_tokens() == 7900);
  CHECK(f.nothing_left());
}

TEST_CASE("a message over 8 MiB is refused and the connection goes on") {
  GrpcFixture f;
  auto large = prompt(1);
  large.mutable_prompt()->set_text(std::string((8 << 20) + 1, 'x'));
  const grpc::Status status = complete(f, large);
  CHECK(status.error_code() == StatusCode::RESOURCE_EXHAUSTED);
  CHECK(complete(f, prompt(1)).ok());
  CHECK(f.nothing_left());
}

TEST_CASE("a clean x-request-id comes back with every answer and any other is replaced") {
  GrpcFixture f({}, {"key"});
  const auto echoed = [&](const std::string& named, bool with_key, bool streamed) {
    grpc::ClientContext context;
    if (!named.empty()) context.AddMetadata("x-request-id", named);
    if (with_key) context.AddMetadata("authorization", "Bearer key");
    if (streamed) {
      auto reader = f.inference->CompleteStream(&context, prompt(2));
      CHECK(read_all(*reader).status.ok());
    } else {
      v1::CompleteResponse response;
      CHECK(f.inference->Complete(&context, prompt(2), &response).ok() == with_key);
    }
    // An answer without a message has its metadata in the trailers.
    std::string id;
    for (const auto* metadata :
         {&context.GetServerInitialMetadata(), &context.GetServerTrailingMetadata()}) {
      const auto found = metadata->find("x-request-id");
      if (found != metadata->end()) id.assign(found->second.data(), found->second.size());
    }
    return id;
  };
  for (const bool with_key : {true, false}) {
    CHECK(echoed("abc-1", with_key, false) == "abc-1");
    CHECK(echoed("", with_key, false).substr(0, 4) == "req-");
    CHECK(echoed("two words", with_key, false).substr(0, 4) == "req-");
    CHECK(echoed(std::string(129, 'x'), with_key, false).substr(0, 4) == "req-");
  }
  CHECK(echoed("stream/7", true, true) == "stream/7");
}

TEST_CASE("compressed messages are refused") {
  GrpcFixture f;
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  auto request = prompt(1);
  request.mutable_prompt()->set_text(std::string(400, 'x'));
  v1::CompleteResponse response;
  CHECK(f.inference->Complete(&context, request, &response).error_code() ==
        StatusCode::UNIMPLEMENTED);
}

TEST_CASE("Tokenize and Detokenize and Models answer over gRPC") {
  GrpcFixture f;
  grpc::ClientContext a, b, c, d, e;
  v1::TokenizeRequest tokenize;
  tokenize.set_text("abc");
  v1::TokenizeResponse tokens;
  REQUIRE(f.inference->Tokenize(&a, tokenize, &tokens).ok());
  CHECK(tokens.token_ids_size() == 4);
  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_token_ids() = tokens.token_ids();
  detokenize.set_skip_special_tokens(true);
  v1::DetokenizeResponse text;
  REQUIRE(f.inference->Detokenize(&b, detokenize, &text).ok());
  CHECK(text.text() == "abc");
  v1::ListModelsResponse list;
  REQUIRE(f.models->List(&c, {}, &list).ok());
  REQUIRE(list.models_size() == 1);
  CHECK(list.models(0).name() == "fake");
  v1::GetModelRequest get;
  v1::Model model;
  get.set_name("fake");
  CHECK(f.models->Get(&d, get, &model).ok());
  get.set_name("other");
  CHECK(f.models->Get(&e, get, &model).error_code() == StatusCode::NOT_FOUND);
}

}  // namespace pelton
