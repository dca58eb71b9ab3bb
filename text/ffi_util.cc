#include "text/ffi_util.h"

#include <fmt/format.h>

#include "core/utf8.h"

namespace pelton::text_internal {

std::vector<PeltonSlice> slices(const std::vector<std::string>& texts) {
  std::vector<PeltonSlice> result;
  result.reserve(texts.size());
  for (const std::string& text : texts) result.push_back(slice(text));
  return result;
}

std::string take(PeltonBuffer buffer) {
  std::string text(buffer.data == nullptr ? "" : buffer.data, buffer.size);
  pelton_buffer_free(buffer);
  return text;
}

std::vector<TokenId> take(PeltonIds ids) {
  std::vector<TokenId> result(ids.data, ids.data + ids.size);
  pelton_ids_free(ids);
  return result;
}

Status to_status(int32_t code, PeltonBuffer error) {
  const std::string message = take(error);
  if (code != kFfiTemplateRaised) {
    return Status(static_cast<absl::StatusCode>(code), message);
  }
  Status status = absl::InvalidArgumentError(message);
  set_error_reason(status, "CHAT_TEMPLATE_ERROR");
  return status;
}

Status check_text(std::string_view text, int64_t limit, std::string_view what) {
  if (static_cast<int64_t>(text.size()) > limit) {
    Status status = absl::InvalidArgumentError(
        fmt::format("{}: {} bytes; at most {} are taken", what, text.size(), limit));
    set_error_reason(status, "TEXT_TOO_LONG");
    return status;
  }
  if (!is_well_formed_utf8(text)) {
    Status status = absl::InvalidArgumentError(fmt::format("{}: not valid UTF-8", what));
    set_error_reason(status, "INVALID_UTF8");
    return status;
  }
  return absl::OkStatus();
}

}  // namespace pelton::text_internal
