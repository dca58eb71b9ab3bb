// Splits a byte stream into the data of server-sent events (WHATWG HTML, "Server-sent events").
// Pieces may end anywhere. One stream, one thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace pelton {

class SseParser {
 public:
  // `on_data` gets each event's data, its lines joined by '\n'. Comments and other fields are
  // skipped.
  void feed(std::string_view bytes, const std::function<void(std::string_view)>& on_data);

 private:
  void end_line(const std::function<void(std::string_view)>& on_data);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace pelton
