// Finds the first of several stop strings in a text that arrives in pieces, and holds back only
// what may still become one. One stream, one thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pelton {

class StopChecker {
 public:
  // Stop strings that are empty or not UTF-8 never match. `include`: the stop string itself is
  // released too.
  StopChecker(const std::vector<std::string>& stop, bool include);

  // Appends `text`; what can be shown goes to `out`. Returns the stop string once one is complete:
  // the one that ends first (of several that end together the longest, which starts first). After
  // that nothing more may be appended. O(bytes) amortised for a fixed set of stop strings.
  std::optional<std::string> append(std::string_view text, std::string& out);
  // The text ends here: releases what was held back.
  void finish(std::string& out);

 private:
  struct Pattern {
    std::string text;
    std::vector<int> failure;  // Knuth-Morris-Pratt: longest proper border of each prefix
    int matched = 0;
  };
  std::vector<Pattern> patterns_;
  std::string held_;
  bool include_;
};

}  // namespace pelton
