// The table of RPCs that the gRPC front end serves.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "server/grpc_stream.h"

namespace pelton {

class Authenticator;
class InferenceService;

// What handlers work on; read-only, shared by all loops.
struct GrpcServices {
  InferenceService* inference = nullptr;
  const Authenticator* auth = nullptr;
};

struct RpcMethod {
  std::string_view name;     // "/pelton.v1.Inference/Complete"
  bool open_to_all = false;  // needs no key
  std::unique_ptr<RpcHandler> (*make)(RpcStream& stream, const GrpcServices& services) = nullptr;
  bool many_messages = false;  // the client sends as many as it likes, when it likes, or none
};

// Null: no such method.
const RpcMethod* find_method(std::string_view name);

// Full names of the services, for reflection and health.
std::span<const std::string_view> grpc_service_names();

// For the table: makes any handler that takes a stream and the services.
template <typename Handler>
std::unique_ptr<RpcHandler> make_handler(RpcStream& stream, const GrpcServices& services) {
  return std::make_unique<Handler>(stream, services);
}

// Each front-end service's own part of the table.
std::span<const RpcMethod> inference_methods();   // grpc_inference.cc
std::span<const RpcMethod> multiplex_methods();   // grpc_multiplex.cc
std::span<const RpcMethod> model_methods();       // grpc_models.cc
std::span<const RpcMethod> health_methods();      // grpc_health.cc
std::span<const RpcMethod> reflection_methods();  // grpc_reflection.cc

}  // namespace pelton
