#include "server/openai_error.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/utf8.h"
#include "server/json_writer.h"

namespace pelton {
namespace {

struct ErrorKind {
  int http_status;
  std::string_view type;
  std::string_view code;  // empty: null
};

ErrorKind kind_of(const Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return {400, "invalid_request_error", "invalid_value"};
    case absl::StatusCode::kUnimplemented:
      return {400, "invalid_request_error", "unsupported_parameter"};
    case absl::StatusCode::kUnauthenticated:
      return {401, "authentication_error", "invalid_api_key"};
    case absl::StatusCode::kPermissionDenied:
      return {403, "permission_error", "permission_denied"};
    case absl::StatusCode::kNotFound:
      return {404, "not_found_error", "not_found"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "overloaded"};
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
      return {499, "request_cancelled", "cancelled"};
    case absl::StatusCode::kUnavailable:
      return {503, "service_unavailable_error", "unavailable"};
    case absl::StatusCode::kDeadlineExceeded:
      return {504, "timeout_error", "deadline_exceeded"};
    default:
      return {500, "internal_error", "internal"};
  }
}

// OpenAI's own words where it has one for our reason.
std::string_view code_of(const Status& status, std::string_view fallback) {
  const auto reason = error_reason(status);
  if (!reason) return fallback;
  if (*reason == "MODEL_NOT_FOUND") return "model_not_found";
  if (*reason == "CONTEXT_LENGTH_EXCEEDED") return "context_length_exceeded";
  if (*reason == "DRAINING") return "draining";
  if (*reason == "DEVICE_FAILED") return "device_failed";
  if (*reason == "NUMERIC_ERROR") return "numeric_error";
  return fallback;
}

bool starts_with_part(std::string_view path, std::string_view part) {
  return path.starts_with(part) &&
         (path.size() == part.size() || path[part.size()] == '.' || path[part.size()] == '[');
}

void replace_first(std::string& text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  if (at != std::string::npos) text.replace(at, from.size(), to);
}

std::string sampling_field(std::string_view field, const FieldNames& names) {
  if (starts_with_part(field, "max_tokens")) return names.max_tokens;
  if (starts_with_part(field, "structured_output")) return names.structured_output;
  if (names.chat && starts_with_part(field, "logprobs")) return "top_logprobs";
  return std::string(field);
}

}  // namespace

int http_status(const Status& status) {
  return kind_of(status).http_status;
}

std::string json_field(std::string_view proto_path, const FieldNames& names) {
  if (proto_path.starts_with("chat.")) proto_path.remove_prefix(5);  // of a tokenize request
  if (proto_path.starts_with("sampling.")) return sampling_field(proto_path.substr(9), names);
  if (proto_path.starts_with("scheduling.")) return std::string(proto_path.substr(11));
  if (proto_path.starts_with("response_format.json_schema.schema_json")) {
    return "response_format.json_schema.schema";
  }
  if (proto_path == "response_format.json_object") return "response_format";
  if (starts_with_part(proto_path, "template_kwargs_json")) return "chat_template_kwargs";
  if (proto_path == "prompt.text" || proto_path == "text") return "prompt";
  if (proto_path == "tool_choice.function_name") return "tool_choice.function.name";
  if (proto_path == "tool_choice.mode") return "tool_choice";
  if (starts_with_part(proto_path, "prompt.token_ids")) return "prompt";
  if (starts_with_part(proto_path, "token_ids")) return "tokens";
  std::string path(proto_path);
  if (path.starts_with("tools[")) {
    for (const std::string_view leaf :
         {"].name", "].description", "].strict", "].parameters_json"}) {
      if (path.ends_with(leaf)) path.insert(path.size() - leaf.size() + 1, ".function");
    }
    replace_first(path, "parameters_json", "parameters");
  } else if (path.starts_with("messages[")) {
    const size_t call = path.find("tool_calls[");
    if (call != std::string::npos) {
      for (const std::string_view leaf : {"].name", "].arguments_json"}) {
        if (path.ends_with(leaf)) path.insert(path.size() - leaf.size() + 1, ".function");
      }
      replace_first(path, "arguments_json", "arguments");
    }
  }
  return path;
}

void append_error(std::string& out, const Status& status, const FieldNames& names) {
  const ErrorKind kind = kind_of(status);
  std::string message = to_valid_utf8(std::string(status.message()));
  const std::optional<std::string> field = error_field(status);
  std::optional<std::string> param;
  if (field) {
    param = json_field(*field, names);
    // Our validators begin the message with the path: the client knows the field by another name.
    if (message.starts_with(*field)) message.replace(0, field->size(), *param);
  }
  out += R"({"error":{"message":)";
  append_json_string(out, message);
  out += R"(,"type":")";
  out += kind.type;
  out += R"(","param":)";
  if (param) {
    append_json_string(out, to_valid_utf8(*param));
  } else {
    out += "null";
  }
  out += R"(,"code":")";
  out += code_of(status, kind.code);
  out += "\"}}";
}

void append_error(std::string& out, std::string_view message, std::string_view type,
                  std::string_view code) {
  out += R"({"error":{"message":)";
  append_json_string(out, to_valid_utf8(message));
  out += R"(,"type":")";
  out += type;
  out += R"(","param":null,"code":")";
  out += code;
  out += "\"}}";
}

int retry_after_s(const Status& status) {
  const int code = http_status(status);
  if (code != 429 && code != 503) return 0;
  const auto after = error_retry_after(status);
  if (!after) return 1;
  return static_cast<int>(std::clamp<int64_t>((after->count() + 999) / 1000, 1, 3600));
}

}  // namespace pelton
