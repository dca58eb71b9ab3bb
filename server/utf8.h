// The little of UTF-8 that the gateway needs. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pelton {

void append_utf8(std::string& out, uint32_t code_point);

// Length in bytes of the well-formed character at `at` (Unicode 15, table 3-7), or 0.
size_t utf8_length(std::string_view text, size_t at);

// Each byte that belongs to no well-formed character becomes U+FFFD.
std::string to_valid_utf8(std::string_view bytes);

size_t count_code_points(std::string_view valid_utf8);

}  // namespace pelton
