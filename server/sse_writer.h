// Frames server-sent events in a caller's buffer: "data: ...\n\n", as chunks of HTTP/1.1 or bare
// for HTTP/1.0. One event is one contiguous piece, so that one send takes it. Used by one thread.
#pragma once

#include <string>
#include <string_view>

namespace pelton {

class SseWriter {
 public:
  explicit SseWriter(bool chunked = true) : chunked_(chunked) {}

  // Between these the caller appends the event's data: one line, as JSON without raw line ends is.
  void begin(std::string& out);
  void end(std::string& out);

  // A line that clients skip; keeps proxies from closing a silent connection.
  void comment(std::string& out, std::string_view text);
  // "data: [DONE]" and the end of the body.
  void done(std::string& out);

 private:
  void open_chunk(std::string& out);
  void close_chunk(std::string& out);

  bool chunked_;
  size_t chunk_at_ = 0;  // where the open chunk's size stands in the buffer
};

}  // namespace pelton
