#include "core/status.h"

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("annotate keeps code, reason, field and retry time") {
  Status field = annotate(invalid_field("sampling.top_p", "must be in (0, 1]"), "request");
  CHECK(field.code() == absl::StatusCode::kInvalidArgument);
  CHECK(error_field(field) == "sampling.top_p");
  CHECK(error_reason(field) == "INVALID_FIELD");
  CHECK(field.message() == "request: sampling.top_p: must be in (0, 1]");

  Status busy = annotate(overloaded("queue full", std::chrono::milliseconds(250)), "engine");
  CHECK(error_retry_after(busy) == std::chrono::milliseconds(250));
  CHECK(error_field(busy) == std::nullopt);
}

TEST_CASE("unsupported is unimplemented, not invalid") {
  Status status = unsupported_field("sampling.best_of", "not built yet");
  CHECK(status.code() == absl::StatusCode::kUnimplemented);
  CHECK(error_reason(status) == "UNSUPPORTED_PARAMETER");
}

}  // namespace pelton
