#include "text/stop_checker.h"

#include <algorithm>
#include <utility>

#include "core/utf8.h"

namespace pelton {

StopChecker::StopChecker(const std::vector<std::string>& stop, bool include) : include_(include) {
  for (const std::string& text : stop) {
    if (text.empty() || !is_well_formed_utf8(text)) continue;
    Pattern pattern{text, std::vector<int>(text.size(), 0), 0};
    for (size_t i = 1; i < text.size(); ++i) {
      int border = pattern.failure[i - 1];
      while (border > 0 && text[i] != text[border]) border = pattern.failure[border - 1];
      pattern.failure[i] = border + (text[i] == text[border] ? 1 : 0);
    }
    patterns_.push_back(std::move(pattern));
  }
}

std::optional<std::string> StopChecker::append(std::string_view text, std::string& out) {
  if (patterns_.empty()) {
    out += text;
    return std::nullopt;
  }
  int longest = 0;  // of the matches under way: what must be held back
  for (const char c : text) {
    held_ += c;
    longest = 0;
    const Pattern* complete = nullptr;
    for (Pattern& pattern : patterns_) {
      int& matched = pattern.matched;
      while (matched > 0 && pattern.text[matched] != c) matched = pattern.failure[matched - 1];
      if (pattern.text[matched] == c) ++matched;
      if (matched < static_cast<int>(pattern.text.size())) {
        longest = std::max(longest, matched);
      } else if (complete == nullptr || pattern.text.size() > complete->text.size()) {
        complete = &pattern;
      }
    }
    if (complete != nullptr) {
      out.append(held_, 0, held_.size() - (include_ ? 0 : complete->text.size()));
      held_.clear();
      return complete->text;
    }
  }
  if (text.empty()) return std::nullopt;
  const size_t free = held_.size() - longest;
  out.append(held_, 0, free);
  held_.erase(0, free);
  return std::nullopt;
}

void StopChecker::finish(std::string& out) {
  out += held_;
  held_.clear();
}

}  // namespace pelton
