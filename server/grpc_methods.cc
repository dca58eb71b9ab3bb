#include "server/grpc_methods.h"

#include <unordered_map>

namespace pelton {
namespace {

std::unordered_map<std::string_view, const RpcMethod*> all_methods() {
  std::unordered_map<std::string_view, const RpcMethod*> all;
  for (const auto methods : {inference_methods(), multiplex_methods(), model_methods(),
                             health_methods(), reflection_methods()}) {
    for (const RpcMethod& method : methods) all.emplace(method.name, &method);
  }
  return all;
}

}  // namespace

const RpcMethod* find_method(std::string_view name) {
  static const std::unordered_map<std::string_view, const RpcMethod*> all = all_methods();
  const auto found = all.find(name);
  return found == all.end() ? nullptr : found->second;
}

std::span<const std::string_view> grpc_service_names() {
  static constexpr std::string_view kNames[] = {"grpc.health.v1.Health",
                                                "grpc.reflection.v1.ServerReflection",
                                                "pelton.v1.Inference", "pelton.v1.Models"};
  return kNames;
}

}  // namespace pelton
