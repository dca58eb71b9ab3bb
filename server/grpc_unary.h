// A unary RPC that is answered at once: one function from request to answer.
#pragma once

#include <memory>
#include <utility>

#include "core/status.h"
#include "server/grpc_methods.h"
#include "server/grpc_stream.h"

namespace pelton {

template <typename Req, typename Resp, StatusOr<Resp> (*kAnswer)(const GrpcServices&, const Req&)>
class UnaryHandler final : public RpcHandler {
 public:
  UnaryHandler(RpcStream& stream, const GrpcServices& services)
      : stream_(stream), services_(services) {}

  void on_message(grpc::ByteBuffer message) override {
    Req request;
    if (const Status status = parse(message, &request); !status.ok()) return stream_.finish(status);
    const StatusOr<Resp> response = kAnswer(services_, request);
    if (!response.ok()) return stream_.finish(response.status());
    stream_.write_and_finish(serialize(*response), absl::OkStatus());
  }

 private:
  RpcStream& stream_;
  const GrpcServices& services_;
};

}  // namespace pelton
