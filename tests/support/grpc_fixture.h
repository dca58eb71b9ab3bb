// A gRPC front end over a fake model, and a client's channel to it, for tests in one process.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "pelton/v1/inference.grpc.pb.h"
#include "pelton/v1/models.grpc.pb.h"
#include "server/auth.h"
#include "server/grpc_server.h"
#include "server/inference_service.h"
#include "tests/support/catch.h"
#include "tests/support/fake_served_model.h"

namespace pelton {

struct GrpcFixture {
  explicit GrpcFixture(FakeModelOptions model_options = {},
                       const std::vector<std::string>& keys = {}, int threads = 1,
                       const GrpcLimits& limits = {})
      : auth(keys) {
    model = std::make_shared<FakeServedModel>(std::move(model_options));
    REQUIRE(host.add(model).ok());
    service = std::make_unique<InferenceService>(&host, &clock, InferenceServiceOptions());
    GrpcServerOptions options;
    options.address = "127.0.0.1:0";
    options.threads = threads;
    options.limits = limits;
    server = GrpcServer::start(options, service.get(), &auth).value();
    connect({});
  }

  void connect(grpc::ChannelArguments arguments) {
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    channel = grpc::CreateCustomChannel(fmt::format("127.0.0.1:{}", server->port()),
                                        grpc::InsecureChannelCredentials(), arguments);
    inference = v1::Inference::NewStub(channel);
    models = v1::Models::NewStub(channel);
    health = grpc::health::v1::Health::NewStub(channel);
    reflection = grpc::reflection::v1::ServerReflection::NewStub(channel);
  }

  // The last stream object goes a moment after its client has seen the end.
  bool nothing_left() {
    return eventually([&] { return service->idle(); }) && model->engine().load().used_blocks == 0;
  }
  grpc::health::v1::HealthCheckResponse::ServingStatus health_of(const std::string& name) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    grpc::health::v1::HealthCheckResponse response;
    request.set_service(name);
    REQUIRE(health->Check(&context, request, &response).ok());
    return response.status();
  }

  SteadyClock clock;
  Authenticator auth;
  std::shared_ptr<FakeServedModel> model;
  ModelHost host;
  std::unique_ptr<InferenceService> service;
  std::unique_ptr<GrpcServer> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Inference::Stub> inference;
  std::unique_ptr<v1::Models::Stub> models;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
  std::unique_ptr<grpc::reflection::v1::ServerReflection::Stub> reflection;
};

// The typed details that came in the trailers.
template <typename Detail>
std::optional<Detail> detail(const grpc::Status& status) {
  google::rpc::Status rpc;
  if (!rpc.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& any : rpc.details()) {
    Detail out;
    if (any.UnpackTo(&out)) return out;
  }
  return std::nullopt;
}
inline std::string reason(const grpc::Status& status) {
  const auto info = detail<google::rpc::ErrorInfo>(status);
  return info && info->domain() == "pelton" ? info->reason() : "";
}
inline std::string bad_field(const grpc::Status& status) {
  const auto bad = detail<google::rpc::BadRequest>(status);
  return bad ? bad->field_violations(0).field() : "";
}

}  // namespace pelton
