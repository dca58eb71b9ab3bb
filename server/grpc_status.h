// Our Status as gRPC sends it: code, message, and google.rpc details (ErrorInfo, BadRequest,
// RetryInfo) in grpc-status-details-bin. Pure functions.
#pragma once

#include <grpcpp/support/status.h>

#include "core/status.h"
#include "google/rpc/status.pb.h"

namespace pelton {

// What the trailers carry, and Multiplex in its items.
google::rpc::Status to_rpc_status(const Status& status);
grpc::Status to_grpc(const Status& status);

}  // namespace pelton
