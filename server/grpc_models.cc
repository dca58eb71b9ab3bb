// pelton.v1.Models over gRPC.
#include "pelton/v1/models.pb.h"
#include "server/grpc_unary.h"
#include "server/inference_service.h"

namespace pelton {
namespace {

StatusOr<v1::ListModelsResponse> list(const GrpcServices& services, const v1::ListModelsRequest&) {
  return services.inference->list_models();
}

StatusOr<v1::Model> get(const GrpcServices& services, const v1::GetModelRequest& request) {
  return services.inference->get_model(request.name());
}

}  // namespace

std::span<const RpcMethod> model_methods() {
  static constexpr RpcMethod kMethods[] = {
      {"/pelton.v1.Models/List", false,
       &make_handler<UnaryHandler<v1::ListModelsRequest, v1::ListModelsResponse, &list>>},
      {"/pelton.v1.Models/Get", false,
       &make_handler<UnaryHandler<v1::GetModelRequest, v1::Model, &get>>},
  };
  return kMethods;
}

}  // namespace pelton
