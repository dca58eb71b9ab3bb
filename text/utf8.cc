#include "text/utf8.h"

namespace pelton {

namespace {
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
}  // namespace

// The byte opens a character of several bytes: how many follow, and the range of the next.
bool Utf8Decoder::begin(unsigned char byte) {
  low_ = 0x80;
  high_ = 0xBF;
  if (byte >= 0xC2 && byte <= 0xDF) {
    needed_ = 1;
  } else if (byte >= 0xE0 && byte <= 0xEF) {
    needed_ = 2;
    if (byte == 0xE0) low_ = 0xA0;   // no overlong forms
    if (byte == 0xED) high_ = 0x9F;  // no surrogates
  } else if (byte >= 0xF0 && byte <= 0xF4) {
    needed_ = 3;
    if (byte == 0xF0) low_ = 0x90;
    if (byte == 0xF4) high_ = 0x8F;  // nothing beyond U+10FFFF
  } else {
    return false;
  }
  bytes_[0] = static_cast<char>(byte);
  size_ = 1;
  return true;
}

void Utf8Decoder::take(unsigned char byte, std::string& out) {
  if (size_ > 0) {
    if (byte >= low_ && byte <= high_) {
      bytes_[size_++] = static_cast<char>(byte);
      low_ = 0x80;
      high_ = 0xBF;
      if (--needed_ == 0) {
        out.append(bytes_, size_);
        size_ = 0;
      }
      return;
    }
    out += kReplacement;  // the run ends before this byte, which opens the next
    size_ = 0;
  }
  if (byte < 0x80) {
    out += static_cast<char>(byte);
  } else if (!begin(byte)) {
    out += kReplacement;
  }
}

void Utf8Decoder::append(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) take(static_cast<unsigned char>(byte), out);
}

void Utf8Decoder::finish(std::string& out) {
  if (size_ > 0) out += kReplacement;
  size_ = 0;
}

bool is_well_formed_utf8(std::string_view text) {
  size_t at = 0;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  while (at < text.size()) {
    const unsigned char first = byte(at);
    if (first < 0x80) {
      ++at;
      continue;
    }
    const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() - at < length) return false;
    const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (byte(at + 1) < low || byte(at + 1) > high) return false;
    for (size_t i = 2; i < length; ++i) {
      if ((byte(at + i) & 0xC0) != 0x80) return false;
    }
    at += length;
  }
  return true;
}

}  // namespace pelton
