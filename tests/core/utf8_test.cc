// The decoder against the rule itself: maximal ill-formed runs, wherever the bytes are cut.
#include "core/utf8.h"

#include <random>
#include <string>

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("ill-formed bytes become one U+FFFD a maximal run", "[text]") {
  const std::string r = "\xEF\xBF\xBD";
  // The examples of the Unicode standard, section 3.9, tables 3-8 to 3-11.
  const std::pair<std::string, std::string> cases[] = {
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", r + r + r + r + r + r + r + r + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", r + r + r + r + r + r + r + r + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", r + r + r + r + r + "A" + r + r + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", r + r + r + r + "A"},
      {"\xE2\x82", r},
      {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
  };
  for (const auto& [bytes, text] : cases) {
    std::string whole, cut;
    Utf8Decoder once, bytewise;
    once.append(bytes, whole);
    once.finish(whole);
    for (const char byte : bytes) bytewise.append(std::string(1, byte), cut);
    bytewise.finish(cut);
    CHECK(whole == text);
    CHECK(cut == text);
    CHECK(is_well_formed_utf8(bytes) == (text == bytes));
  }
}

TEST_CASE("what the decoder lets through is well-formed and the well-formed unchanged", "[text]") {
  std::mt19937 random(3);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes;
    for (int i = random() % 12; i > 0; --i) {
      const unsigned kind = random() % 4;
      bytes += static_cast<char>(kind == 0   ? random() % 128
                                 : kind == 1 ? 0x80 + random() % 64
                                             : 0xC0 + random() % 64);
    }
    std::string text;
    Utf8Decoder decoder;
    decoder.append(bytes, text);
    decoder.finish(text);
    REQUIRE(is_well_formed_utf8(text));
    if (is_well_formed_utf8(bytes)) REQUIRE(text == bytes);
    if (!is_well_formed_utf8(bytes)) REQUIRE(text.find("\xEF\xBF\xBD") != std::string::npos);
  }
}

}  // namespace pelton
