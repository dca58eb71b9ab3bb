// absl::Status under our name, the two status macros, and the typed details that an error carries
// to the wire: which field, which machine-readable reason, when to retry. Thread-safe values.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pelton {

using absl::Status;
using absl::StatusOr;

// A value that the user sent is out of its bound. `field` is the proto path
// ("sampling.temperature"); the HTTP gateway maps it to its own name.
Status invalid_field(std::string_view field, std::string_view why);

// Declared in the API and valid, but not built yet: UNIMPLEMENTED, 400 `unsupported_parameter`.
Status unsupported_field(std::string_view field, std::string_view why);

// A queue is full: RESOURCE_EXHAUSTED with the time after which a retry makes sense.
Status overloaded(std::string_view what, std::chrono::milliseconds retry_after);

// Attaches or reads the details. Readers return nullopt where a status carries none.
void set_error_field(Status& status, std::string_view field);
std::optional<std::string> error_field(const Status& status);
// UPPER_SNAKE_CASE, as google.rpc.ErrorInfo.reason asks ("CONTEXT_LENGTH_EXCEEDED").
void set_error_reason(Status& status, std::string_view reason);
std::optional<std::string> error_reason(const Status& status);
void set_error_retry_after(Status& status, std::chrono::milliseconds retry_after);
std::optional<std::chrono::milliseconds> error_retry_after(const Status& status);

// The same code and details with "context: " put before the message.
Status annotate(const Status& status, std::string_view context);

}  // namespace pelton

#define PELTON_RETURN_IF_ERROR(expression)                                  \
  do {                                                                      \
    if (::absl::Status pelton_status = (expression); !pelton_status.ok()) { \
      return pelton_status;                                                 \
    }                                                                       \
  } while (false)

#define PELTON_STATUS_CONCAT_INNER(a, b) a##b
#define PELTON_STATUS_CONCAT(a, b) PELTON_STATUS_CONCAT_INNER(a, b)
#define PELTON_ASSIGN_OR_RETURN(lhs, expression) \
  PELTON_ASSIGN_OR_RETURN_INNER(PELTON_STATUS_CONCAT(pelton_or_, __LINE__), lhs, expression)
#define PELTON_ASSIGN_OR_RETURN_INNER(tmp, lhs, expression) \
  auto tmp = (expression);                                  \
  if (!tmp.ok()) return std::move(tmp).status();            \
  lhs = *std::move(tmp)
