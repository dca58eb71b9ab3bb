// How many streams may be open, and for how long they may do nothing.
#include <grpcpp/generic/generic_stub.h>

#include <memory>
#include <vector>

#include "tests/support/grpc_fixture.h"

namespace pelton {
namespace {

using grpc::StatusCode;
using grpc::health::v1::HealthCheckResponse;

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kComplete[] = "/pelton.v1.Inference/Complete";

// Calls that are begun and send no message.
class SilentCalls {
 public:
  explicit SilentCalls(GrpcFixture& f) : stub_(f.channel) {}
  ~SilentCalls() {
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }
  void open(const char* method) {
    Call& call = *calls_.emplace_back(std::make_unique<Call>());
    call.stream = stub_.PrepareCall(&call.context, method, &queue_);
    call.stream->StartCall(nullptr);
    call.stream->Finish(&call.status, &call);
  }
  // Waits until one more has ended.
  StatusCode end_of_one() {
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
      if (tag != nullptr) return static_cast<Call*>(tag)->status.error_code();
    }
    return StatusCode::UNKNOWN;
  }
  void cancel_all() {
    for (const auto& call : calls_) call->context.TryCancel();
  }

 private:
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
    grpc::Status status;
  };
  grpc::GenericStub stub_;
  std::vector<std::unique_ptr<Call>> calls_;
  grpc::CompletionQueue queue_;
};

v1::CompleteRequest prompt(int max_tokens) {
  v1::CompleteRequest request;
  request.mutable_prompt()->set_text("xyz");
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

StatusCode complete(GrpcFixture& f) {
  grpc::ClientContext context;
  v1::CompleteResponse response;
  return f.inference->Complete(&context, prompt(1), &response).error_code();
}

constexpr Duration kSoon = std::chrono::milliseconds(20);

}  // namespace

TEST_CASE("of calls without key or message the oldest go and health is told meanwhile") {
  GrpcLimits limits;
  limits.waiting_without_key = 4;
  limits.first_message_without_key = std::chrono::hours(1);
  GrpcFixture f({}, {"secret"}, 1, limits);
  SilentCalls calls(f);
  for (int i = 0; i < 10; ++i) calls.open(kCheck);
  for (int i = 0; i < 6; ++i) CHECK(calls.end_of_one() == StatusCode::RESOURCE_EXHAUSTED);
  CHECK(f.health_of("") == HealthCheckResponse::SERVING);
  CHECK(calls.end_of_one() == StatusCode::RESOURCE_EXHAUSTED);  // made room for that
  calls.cancel_all();
  for (int i = 0; i < 3; ++i) CHECK(calls.end_of_one() == StatusCode::CANCELLED);
}

TEST_CASE("a call whose message does not come ends with or without a key") {
  GrpcLimits limits;
  limits.check_interval = std::chrono::milliseconds(5);
  limits.first_message_without_key = kSoon;
  limits.first_message = kSoon;
  GrpcFixture f({}, {}, 1, limits);
  SilentCalls calls(f);
  calls.open(kCheck);
  CHECK(calls.end_of_one() == StatusCode::DEADLINE_EXCEEDED);
  calls.open(kComplete);
  CHECK(calls.end_of_one() == StatusCode::DEADLINE_EXCEEDED);
}

TEST_CASE("so many may watch the health and no more") {
  GrpcLimits limits;
  limits.watchers = 2;
  GrpcFixture f({}, {}, 1, limits);
  grpc::ClientContext contexts[3];
  std::vector<std::unique_ptr<grpc::ClientReader<HealthCheckResponse>>> watches;
  HealthCheckResponse response;
  for (grpc::ClientContext& context : contexts) {
    watches.push_back(f.health->Watch(&context, {}));
    CHECK(watches.back()->Read(&response) == (watches.size() <= 2));
  }
  CHECK(watches[2]->Finish().error_code() == StatusCode::RESOURCE_EXHAUSTED);
  CHECK(f.health_of("") == HealthCheckResponse::SERVING);
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (int i = 0; i < 2; ++i) watches[i]->Finish();
}

TEST_CASE("health is told when no call more may be open") {
  GrpcLimits limits;
  limits.streams = 20;
  GrpcFixture f({}, {}, 1, limits);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<
      std::unique_ptr<grpc::ClientReaderWriter<v1::MultiplexRequest, v1::MultiplexResponse>>>
      streams;
  for (int i = 0; i < 30; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(f.inference->Multiplex(contexts.back().get()));
  }
  CHECK(eventually([&] { return complete(f) == StatusCode::RESOURCE_EXHAUSTED; }));
  CHECK(f.health_of("") == HealthCheckResponse::SERVING);
  for (const auto& context : contexts) context->TryCancel();
  for (const auto& stream : streams) stream->Finish();
  CHECK(eventually([&] { return complete(f) == StatusCode::OK; }));
}

TEST_CASE("a client that reads nothing loses its stream") {
  FakeModelOptions options;
  options.engine.max_model_len = 8000;
  GrpcLimits limits;
  limits.check_interval = std::chrono::milliseconds(5);
  limits.write = std::chrono::milliseconds(100);
  GrpcFixture f(options, {}, 1, limits);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4096);
  f.connect(arguments);
  grpc::ClientContext context;
  const auto reader = f.inference->CompleteStream(&context, prompt(7900));
  REQUIRE(eventually([&] { return !f.service->idle(); }));
  CHECK(f.nothing_left());
  v1::CompleteStreamResponse message;
  while (reader->Read(&message)) {
  }
  CHECK(reader->Finish().error_code() == StatusCode::CANCELLED);
}

}  // namespace pelton
