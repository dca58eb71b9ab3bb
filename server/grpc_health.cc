// grpc.health.v1 over gRPC: SERVING while a model is loaded and healthy and no drain has begun.
#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "grpc/health/v1/health.pb.h"
#include "server/grpc_unary.h"
#include "server/inference_service.h"

namespace pelton {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr size_t kMaxNameBytes = 256;  // nobody needs a key to send one

// Whether there is such a service; the empty name is the whole server's.
StatusOr<bool> is_known(const std::string& service) {
  if (service.size() > kMaxNameBytes) {
    return invalid_field("service", fmt::format("is {} bytes long, at most {} are allowed",
                                                service.size(), kMaxNameBytes));
  }
  const auto names = grpc_service_names();
  return service.empty() || std::find(names.begin(), names.end(), service) != names.end();
}

HealthCheckResponse::ServingStatus serving_status(const GrpcServices& services, bool known) {
  if (!known) return HealthCheckResponse::SERVICE_UNKNOWN;
  return services.inference->ready() ? HealthCheckResponse::SERVING
                                     : HealthCheckResponse::NOT_SERVING;
}

StatusOr<HealthCheckResponse> check(const GrpcServices& services,
                                    const HealthCheckRequest& request) {
  PELTON_ASSIGN_OR_RETURN(const bool known, is_known(request.service()));
  if (!known) return absl::NotFoundError("no such service");
  HealthCheckResponse response;
  response.set_status(serving_status(services, known));
  return response;
}

// Sends the status at once and whenever it has changed.
class WatchHandler final : public RpcHandler {
 public:
  WatchHandler(RpcStream& stream, const GrpcServices& services)
      : stream_(stream), services_(services) {}
  ~WatchHandler() override { stream_.loop().remove_health_watcher(stream_.key()); }

  void on_message(grpc::ByteBuffer message) override {
    HealthCheckRequest request;
    if (const Status status = parse(message, &request); !status.ok()) return stream_.finish(status);
    const StatusOr<bool> known = is_known(request.service());
    if (!known.ok()) return stream_.finish(known.status());
    known_ = *known;
    if (!stream_.loop().add_health_watcher(stream_.key(), [this] { tell(); })) {
      return stream_.finish(overloaded("too many watch the health", std::chrono::seconds(1)));
    }
    tell();
  }
  void on_written() override { tell(); }
  void on_cancel() override { stream_.loop().remove_health_watcher(stream_.key()); }

 private:
  void tell() {
    const auto now = serving_status(services_, known_);
    if (stream_.write_in_flight() || now == told_) return;
    told_ = now;
    HealthCheckResponse response;
    response.set_status(now);
    stream_.write(serialize(response));
  }

  RpcStream& stream_;
  const GrpcServices& services_;
  bool known_ = false;
  std::optional<HealthCheckResponse::ServingStatus> told_;
};

}  // namespace

std::span<const RpcMethod> health_methods() {
  static constexpr RpcMethod kMethods[] = {
      {"/grpc.health.v1.Health/Check", true,
       &make_handler<UnaryHandler<HealthCheckRequest, HealthCheckResponse, &check>>},
      {"/grpc.health.v1.Health/Watch", true, &make_handler<WatchHandler>},
  };
  return kMethods;
}

}  // namespace pelton
