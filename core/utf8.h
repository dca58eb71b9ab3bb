// UTF-8 as the Unicode standard defines it (table 3-7): checking, and decoding byte by byte with
// U+FFFD for each maximal ill-formed run. Pure values, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pelton {

// Takes bytes as they come, gives out whole characters at once.
class Utf8Decoder {
 public:
  // Appends what is complete to `out`, U+FFFD for what can not become a character.
  void append(std::string_view bytes, std::string& out);
  // No more bytes: a character under way becomes U+FFFD.
  void finish(std::string& out);
  // A character is under way.
  bool pending() const { return size_ > 0; }

 private:
  void take(unsigned char byte, std::string& out);
  bool begin(unsigned char byte);

  char bytes_[4] = {};
  int size_ = 0;                            // of the character under way
  int needed_ = 0;                          // bytes it still lacks
  unsigned char low_ = 0x80, high_ = 0xBF;  // what its next byte may be
};

// Length in bytes of the well-formed character at `at`; 0: there is none.
size_t utf8_length(std::string_view text, size_t at);
bool is_well_formed_utf8(std::string_view text);

// U+FFFD for each maximal ill-formed run.
std::string to_valid_utf8(std::string_view bytes);

void append_utf8(std::string& out, uint32_t code_point);  // a Unicode scalar value
size_t count_code_points(std::string_view valid_utf8);

}  // namespace pelton
