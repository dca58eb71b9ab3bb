#include "client/sse_parser.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace pelton {
namespace {

std::vector<std::string> parse(const std::vector<std::string>& pieces) {
  SseParser parser;
  std::vector<std::string> out;
  for (const std::string& piece : pieces) {
    parser.feed(piece, [&](std::string_view data) { out.emplace_back(data); });
  }
  return out;
}

}  // namespace

TEST_CASE("events are the same wherever the bytes are cut") {
  const std::string stream =
      ": keep-alive\n\ndata: {\"a\":1}\n\ndata:two\r\ndata: lines\r\n\r\nevent: x\ndata\n\ndata: "
      "[DONE]\n\n";
  const std::vector<std::string> expected = {"{\"a\":1}", "two\nlines", "", "[DONE]"};
  CHECK(parse({stream}) == expected);
  for (size_t a = 0; a <= stream.size(); ++a) {
    for (size_t b = a; b <= stream.size(); b += 3) {
      REQUIRE(parse({stream.substr(0, a), stream.substr(a, b - a), stream.substr(b)}) == expected);
    }
  }
}

TEST_CASE("an event without its blank line is not given") {
  CHECK(parse({"data: x\n"}).empty());
  CHECK(parse({"data: x\n", "\n"}) == std::vector<std::string>{"x"});
}

}  // namespace pelton
