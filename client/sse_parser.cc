#include "client/sse_parser.h"

namespace pelton {

void SseParser::feed(std::string_view bytes, const std::function<void(std::string_view)>& on_data) {
  for (const char c : bytes) {
    // "\r\n" is one line end, wherever the pieces are cut.
    const bool second_half = after_cr_ && c == '\n';
    after_cr_ = c == '\r';
    if (second_half) continue;
    if (c == '\n' || c == '\r') {
      end_line(on_data);
    } else {
      line_ += c;
    }
  }
}

void SseParser::end_line(const std::function<void(std::string_view)>& on_data) {
  if (line_.empty()) {
    if (has_data_) on_data(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  const size_t colon = line_.find(':');
  if (line_.compare(0, colon, "data") == 0) {
    if (has_data_) data_ += '\n';
    if (colon != line_.npos) {
      const size_t begin = colon + 1 < line_.size() && line_[colon + 1] == ' ' ? 2 : 1;
      data_.append(line_, colon + begin, line_.npos);
    }
    has_data_ = true;
  }
  line_.clear();
}

}  // namespace pelton
