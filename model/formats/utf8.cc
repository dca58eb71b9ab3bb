#include "model/formats/utf8.h"

#include <cstddef>
#include <cstdint>

namespace pelton {
namespace {

// Length of the sequence that starts at text[i], 0 where it is malformed.
size_t sequence_length(std::string_view text, size_t i) {
  const auto at = [&text](size_t j) { return j < text.size() ? static_cast<uint8_t>(text[j]) : 0; };
  const auto tail = [&at](size_t j) { return (at(j) & 0xC0) == 0x80; };
  const int lead = at(i);
  const int second = at(i + 1);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(i + 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!tail(i + 1) || !tail(i + 2)) return 0;
    if (lead == 0xE0 && second < 0xA0) return 0;
    if (lead == 0xED && second > 0x9F) return 0;
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!tail(i + 1) || !tail(i + 2) || !tail(i + 3)) return 0;
    if (lead == 0xF0 && second < 0x90) return 0;
    if (lead == 0xF4 && second > 0x8F) return 0;
    return 4;
  }
  return 0;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const size_t length = sequence_length(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

}  // namespace pelton
