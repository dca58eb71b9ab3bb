// What operators and tools see of the gRPC front end: health, reflection, keys, ports, draining.
#include <future>

#include "server/grpc_status.h"
#include "tests/support/grpc_fixture.h"

namespace pelton {
namespace {

using grpc::StatusCode;
using grpc::health::v1::HealthCheckResponse;

v1::CompleteRequest prompt(int max_tokens) {
  v1::CompleteRequest request;
  request.mutable_prompt()->set_text("xyz");
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

}  // namespace

TEST_CASE("health is told for the server and each service and turns with a drain") {
  GrpcFixture f;
  for (const char* name : {"", "pelton.v1.Inference", "pelton.v1.Models"}) {
    CHECK(f.health_of(name) == HealthCheckResponse::SERVING);
  }
  grpc::ClientContext unknown_context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("nobody");
  HealthCheckResponse response;
  CHECK(f.health->Check(&unknown_context, request, &response).error_code() ==
        StatusCode::NOT_FOUND);

  grpc::ClientContext watch_context;
  const auto watch = f.health->Watch(&watch_context, {});
  REQUIRE(watch->Read(&response));
  CHECK(response.status() == HealthCheckResponse::SERVING);
  f.service->drain();
  REQUIRE(watch->Read(&response));
  CHECK(response.status() == HealthCheckResponse::NOT_SERVING);
  CHECK(f.health_of("") == HealthCheckResponse::NOT_SERVING);
  watch_context.TryCancel();
  CHECK(watch->Finish().error_code() == StatusCode::CANCELLED);
}

TEST_CASE("health keeps no long name and tells of an unknown one") {
  GrpcFixture f;
  grpc::health::v1::HealthCheckRequest request;
  HealthCheckResponse response;
  request.set_service(std::string(256, 'x'));
  grpc::ClientContext check_context, watch_context, long_check_context, long_watch_context;
  grpc::Status status = f.health->Check(&check_context, request, &response);
  CHECK(status.error_code() == StatusCode::NOT_FOUND);
  CHECK(reason(status) == "NOT_FOUND");
  const auto watch = f.health->Watch(&watch_context, request);
  REQUIRE(watch->Read(&response));
  CHECK(response.status() == HealthCheckResponse::SERVICE_UNKNOWN);

  request.set_service(std::string(257, 'x'));
  status = f.health->Check(&long_check_context, request, &response);
  CHECK(status.error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK(bad_field(status) == "service");
  const auto long_watch = f.health->Watch(&long_watch_context, request);
  CHECK_FALSE(long_watch->Read(&response));
  CHECK(bad_field(long_watch->Finish()) == "service");
  watch_context.TryCancel();
  watch->Finish();
}

TEST_CASE("a stream that is closed before any message ends well where it needs none") {
  GrpcFixture f;
  grpc::ClientContext multiplex_context, reflection_context;
  const auto multiplex = f.inference->Multiplex(&multiplex_context);
  multiplex->WritesDone();
  CHECK(multiplex->Finish().ok());
  const auto reflection = f.reflection->ServerReflectionInfo(&reflection_context);
  reflection->WritesDone();
  CHECK(reflection->Finish().ok());
}

TEST_CASE("a failed device turns health to not serving") {
  GrpcFixture f;
  f.model->fail_device(absl::InternalError("sticky"));
  grpc::ClientContext context;
  v1::CompleteResponse response;
  const grpc::Status status = f.inference->Complete(&context, prompt(3), &response);
  CHECK(status.error_code() == StatusCode::UNAVAILABLE);
  CHECK(reason(status) == "DEVICE_FAILED");
  CHECK(eventually([&] { return f.health_of("") == HealthCheckResponse::NOT_SERVING; }));
}

TEST_CASE("reflection gives every service with the files that describe it") {
  GrpcFixture f;
  grpc::ClientContext context;
  const auto stream = f.reflection->ServerReflectionInfo(&context);
  grpc::reflection::v1::ServerReflectionRequest request;
  grpc::reflection::v1::ServerReflectionResponse response;
  request.set_list_services("");
  REQUIRE(stream->Write(request));
  REQUIRE(stream->Read(&response));
  std::vector<std::string> names;
  for (const auto& service : response.list_services_response().service()) {
    names.push_back(service.name());
  }
  CHECK(names.size() == 4);
  for (const std::string& name : names) {
    CAPTURE(name);
    request.set_file_containing_symbol(name);
    REQUIRE(stream->Write(request));
    REQUIRE(stream->Read(&response));
    CHECK(response.file_descriptor_response().file_descriptor_proto_size() > 0);
  }
  request.set_file_by_filename("pelton/v1/inference.proto");
  REQUIRE(stream->Write(request));
  REQUIRE(stream->Read(&response));
  CHECK(response.file_descriptor_response().file_descriptor_proto_size() >= 3);  // and its imports
  request.set_file_containing_symbol("no.such.Thing");
  REQUIRE(stream->Write(request));
  REQUIRE(stream->Read(&response));
  CHECK(response.error_response().error_code() == static_cast<int>(StatusCode::NOT_FOUND));
  stream->WritesDone();
  CHECK(stream->Finish().ok());
}

TEST_CASE("a key guards every method but health") {
  GrpcFixture f({}, {"secret"});
  const auto call = [&](const char* header) {
    grpc::ClientContext context;
    if (header != nullptr) context.AddMetadata("authorization", header);
    v1::CompleteResponse response;
    return f.inference->Complete(&context, prompt(1), &response);
  };
  for (const char* bad : {static_cast<const char*>(nullptr), "Bearer wrong", "secret", ""}) {
    const grpc::Status status = call(bad);
    CHECK(status.error_code() == StatusCode::UNAUTHENTICATED);
    CHECK(reason(status) == "UNAUTHENTICATED");
  }
  CHECK(call("Bearer secret").ok());
  CHECK(f.health_of("") == HealthCheckResponse::SERVING);

  grpc::ClientContext list_context, reflection_context, watch_context;
  v1::ListModelsResponse list;
  CHECK(f.models->List(&list_context, {}, &list).error_code() == StatusCode::UNAUTHENTICATED);
  const auto stream = f.reflection->ServerReflectionInfo(&reflection_context);
  grpc::reflection::v1::ServerReflectionResponse response;
  CHECK_FALSE(stream->Read(&response));
  CHECK(stream->Finish().error_code() == StatusCode::UNAUTHENTICATED);
  const auto watch = f.health->Watch(&watch_context, {});
  HealthCheckResponse status;
  CHECK(watch->Read(&status));
  watch_context.TryCancel();
  watch->Finish();
}

TEST_CASE("a busy port is an error that names it") {
  GrpcFixture f;
  GrpcServerOptions options;
  options.address = fmt::format("127.0.0.1:{}", f.server->port());
  const auto second = GrpcServer::start(options, f.service.get(), &f.auth);
  CHECK(second.status().code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(second.status().message()).find(options.address) != std::string::npos);
}

TEST_CASE("a shutdown lets open streams end within the grace and cancels them after") {
  FakeModelOptions model_options;
  model_options.step_time = std::chrono::milliseconds(1);
  GrpcFixture f(model_options);
  const auto read = [&](int max_tokens, std::promise<void>* begun) {
    grpc::ClientContext context;
    const auto reader = f.inference->CompleteStream(&context, prompt(max_tokens));
    v1::CompleteStreamResponse message;
    REQUIRE(reader->Read(&message));
    begun->set_value();
    while (reader->Read(&message)) {
    }
    return reader->Finish();
  };
  std::promise<void> begun;
  SECTION("within") {
    auto client = std::async(std::launch::async, read, 50, &begun);
    begun.get_future().wait();
    f.service->drain();
    f.server->shutdown(std::chrono::seconds(30));
    CHECK(client.get().ok());
  }
  SECTION("after") {
    f.model->gate.close();
    std::thread opener([&] { f.model->gate.open(), std::this_thread::yield(); });
    auto client = std::async(std::launch::async, read, 400, &begun);
    begun.get_future().wait();
    f.model->gate.close();
    opener.join();
    f.server->shutdown(std::chrono::milliseconds(10));
    CHECK_FALSE(client.get().ok());
    f.model->gate.open();
  }
  f.service->drain();
  CHECK(f.nothing_left());
}

TEST_CASE("long messages are cut where trailers would overflow and stay valid UTF-8") {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "\xe2\x82\xac";
  const auto rpc = to_rpc_status(invalid_field("f", text));
  CHECK(rpc.message().size() <= 1024);
  CHECK(rpc.message().size() > 1020);
  CHECK((rpc.message().size() - 3) % 3 == 0);  // "f: " and whole characters
  CHECK(to_grpc(absl::OkStatus()).ok());
}

}  // namespace pelton
