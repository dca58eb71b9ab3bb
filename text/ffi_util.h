// Small glue between our types and the Rust crate's C ABI; for text/*.cc alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/ids.h"
#include "core/status.h"
#include "text/ffi/abi.h"

namespace pelton::text_internal {

inline PeltonSlice slice(std::string_view text) {
  return {text.data(), text.size()};
}

std::vector<PeltonSlice> slices(const std::vector<std::string>& texts);

// Copies and frees.
std::string take(PeltonBuffer buffer);
std::vector<TokenId> take(PeltonIds ids);

// `code` is not 0; frees `error`.
Status to_status(int32_t code, PeltonBuffer error);

// INVALID_ARGUMENT with `reason` where `text` is longer than `limit` or not UTF-8.
Status check_text(std::string_view text, int64_t limit, std::string_view what);

}  // namespace pelton::text_internal
