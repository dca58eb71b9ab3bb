#include "core/status.h"

#include <fmt/format.h>

#include "absl/strings/numbers.h"

namespace pelton {
namespace {

constexpr char kFieldUrl[] = "pelton/field";
constexpr char kReasonUrl[] = "pelton/reason";
constexpr char kRetryUrl[] = "pelton/retry_after_ms";

// By view: Cord's template constructor from std::string has another name under clang than under the
// GCC that built the library.
absl::Cord to_cord(std::string_view text) {
  return absl::Cord(absl::string_view(text.data(), text.size()));
}

std::optional<std::string> payload(const Status& status, const char* url) {
  auto found = status.GetPayload(url);
  if (!found) return std::nullopt;
  return std::string(*found);
}

}  // namespace

Status invalid_field(std::string_view field, std::string_view why) {
  Status status = absl::InvalidArgumentError(fmt::format("{}: {}", field, why));
  set_error_field(status, field);
  set_error_reason(status, "INVALID_FIELD");
  return status;
}

Status unsupported_field(std::string_view field, std::string_view why) {
  Status status = absl::UnimplementedError(fmt::format("{}: {}", field, why));
  set_error_field(status, field);
  set_error_reason(status, "UNSUPPORTED_PARAMETER");
  return status;
}

Status overloaded(std::string_view what, std::chrono::milliseconds retry_after) {
  Status status = absl::ResourceExhaustedError(std::string(what));
  set_error_reason(status, "OVERLOADED");
  set_error_retry_after(status, retry_after);
  return status;
}

void set_error_field(Status& status, std::string_view field) {
  status.SetPayload(kFieldUrl, to_cord(field));
}

std::optional<std::string> error_field(const Status& status) {
  return payload(status, kFieldUrl);
}

void set_error_reason(Status& status, std::string_view reason) {
  status.SetPayload(kReasonUrl, to_cord(reason));
}

std::optional<std::string> error_reason(const Status& status) {
  return payload(status, kReasonUrl);
}

void set_error_retry_after(Status& status, std::chrono::milliseconds retry_after) {
  status.SetPayload(kRetryUrl, to_cord(fmt::format("{}", retry_after.count())));
}

std::optional<std::chrono::milliseconds> error_retry_after(const Status& status) {
  auto text = payload(status, kRetryUrl);
  int64_t count = 0;
  if (!text || !absl::SimpleAtoi(*text, &count)) return std::nullopt;
  return std::chrono::milliseconds(count);
}

Status annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  Status out(status.code(), fmt::format("{}: {}", context, std::string(status.message())));
  status.ForEachPayload(
      [&out](absl::string_view url, const absl::Cord& value) { out.SetPayload(url, value); });
  return out;
}

}  // namespace pelton
