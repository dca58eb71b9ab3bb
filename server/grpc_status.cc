#include "server/grpc_status.h"

#include <algorithm>
#include <string>
#include <utility>

#include "google/rpc/error_details.pb.h"

namespace pelton {
namespace {

// Trailers must stay well under the 8 KiB that clients take by default; the message is in them
// twice, and percent-encoded once.
constexpr size_t kMaxMessageBytes = 1024;
constexpr size_t kMaxFieldBytes = 256;

std::string shortened(std::string text, size_t max) {
  if (text.size() <= max) return text;
  while (max > 0 && (static_cast<unsigned char>(text[max]) & 0xC0) == 0x80) --max;  // whole UTF-8
  text.resize(max);
  return text;
}

// Where a status came without a reason of ours.
const char* default_reason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kCancelled:
      return "CANCELLED";
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_FIELD";
    case absl::StatusCode::kNotFound:
      return "NOT_FOUND";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case absl::StatusCode::kResourceExhausted:
      return "OVERLOADED";
    case absl::StatusCode::kUnimplemented:
      return "UNSUPPORTED_PARAMETER";
    case absl::StatusCode::kUnauthenticated:
      return "UNAUTHENTICATED";
    case absl::StatusCode::kUnavailable:
      return "DEVICE_FAILED";
    default:
      return "INTERNAL";
  }
}

}  // namespace

google::rpc::Status to_rpc_status(const Status& status) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  out.set_message(shortened(std::string(status.message()), kMaxMessageBytes));

  google::rpc::ErrorInfo info;
  info.set_domain("pelton");
  info.set_reason(error_reason(status).value_or(default_reason(status.code())));
  out.add_details()->PackFrom(info);
  if (const auto field = error_field(status)) {
    google::rpc::BadRequest bad;
    bad.add_field_violations()->set_field(shortened(*field, kMaxFieldBytes));
    bad.mutable_field_violations(0)->set_description(out.message());
    out.add_details()->PackFrom(bad);
  }
  if (const auto after = error_retry_after(status)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(after->count() / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int>(after->count() % 1000) * 1'000'000);
    out.add_details()->PackFrom(retry);
  }
  return out;
}

grpc::Status to_grpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status details = to_rpc_status(status);
  return {static_cast<grpc::StatusCode>(status.code()), details.message(),
          details.SerializeAsString()};
}

}  // namespace pelton
