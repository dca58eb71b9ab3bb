// Stop strings against a search over the whole text, for every way to cut the text into pieces.
#include "text/stop_checker.h"

#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace pelton {
namespace {

struct Found {
  size_t end = std::string::npos;
  std::string stop;
};

// The stop string that ends first; of several that end together the longest.
Found search(const std::string& text, const std::vector<std::string>& stops) {
  Found found;
  for (const std::string& stop : stops) {
    if (stop.empty()) continue;
    const size_t at = text.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (end < found.end || (end == found.end && stop.size() > found.stop.size())) {
      found = {end, stop};
    }
  }
  return found;
}

// What of `text` may still become a stop string.
size_t undecided(const std::string& text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t size = 1; size < stop.size() && size <= text.size(); ++size) {
      if (text.ends_with(stop.substr(0, size))) longest = std::max(longest, size);
    }
  }
  return longest;
}

void check(const std::vector<std::string>& pieces, const std::vector<std::string>& stops,
           bool include) {
  std::string whole;
  for (const std::string& piece : pieces) whole += piece;
  const Found found = search(whole, stops);
  StopChecker checker(stops, include);
  std::string out, seen;
  std::optional<std::string> stopped;
  for (const std::string& piece : pieces) {
    seen += piece;
    stopped = checker.append(piece, out);
    if (stopped) break;
    REQUIRE(out == seen.substr(0, seen.size() - undecided(seen, stops)));
  }
  if (found.end == std::string::npos) {
    REQUIRE_FALSE(stopped);
    checker.finish(out);
    REQUIRE(out == whole);
  } else {
    REQUIRE(stopped == found.stop);
    REQUIRE(out == whole.substr(0, found.end - (include ? 0 : found.stop.size())));
  }
}

}  // namespace

TEST_CASE("stop strings are found across pieces and held back no further than needed", "[text]") {
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return random() % n; };
  const std::vector<std::string> letters = {"a", "b", "\xC3\xA9", "\xF0\x9F\x98\x80"};
  const auto word = [&](size_t most) {
    std::string text;
    for (size_t i = below(most + 1); i > 0; --i) text += letters[below(letters.size() - 1 + i % 2)];
    return text;
  };
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::string> stops, pieces;
    for (size_t i = below(4); i > 0; --i) stops.push_back(word(5));
    for (size_t i = below(12); i > 0; --i) pieces.push_back(word(3));
    INFO("round " << round);
    check(pieces, stops, below(2) == 1);
  }
}

TEST_CASE("of stop strings that overlap the one that ends first wins", "[text]") {
  std::string out;
  StopChecker shorter({"abcd", "bc"}, false);
  CHECK(shorter.append("xabcd", out) == "bc");
  CHECK(out == "xa");
  out.clear();
  StopChecker together({"c", "abc"}, true);
  CHECK(together.append("xabc", out) == "abc");
  CHECK(out == "xabc");
}

}  // namespace pelton
