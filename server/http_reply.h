// Heads and small answers of HTTP/1.1 as bytes in a caller's buffer. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/status.h"
#include "server/openai_request.h"

namespace pelton {

struct HttpReply {
  int status = 200;
  std::string_view content_type = "application/json";
  std::string extra_headers;  // whole lines, each ending in \r\n
  std::string body;
};

struct ReplyFraming {
  bool keep_alive = true;
  bool head_only = false;         // an answer to HEAD: the length of the body, and no body
  std::string_view headers = {};  // further lines that all answers to this request share
};

HttpReply error_reply(int status, std::string_view message, std::string_view code);
HttpReply error_reply(const Status& status, const FieldNames& names);

void append_reply(std::string& out, const HttpReply& reply, const ReplyFraming& framing);
// The head of a stream of events; `chunked` for HTTP/1.1.
void append_stream_head(std::string& out, bool chunked, const ReplyFraming& framing);

}  // namespace pelton
