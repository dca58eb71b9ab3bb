#include "server/http_reply.h"

#include <array>
#include <ctime>

#include "server/json_writer.h"
#include "server/openai_error.h"

namespace pelton {
namespace {

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Internal Server Error";
  }
}

// RFC 9110 5.6.7, made once a second a thread.
std::string_view http_date() {
  thread_local std::time_t made_at = 0;
  thread_local std::array<char, 32> text{};
  thread_local size_t length = 0;
  const std::time_t now = std::time(nullptr);
  if (now != made_at) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    length = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    made_at = now;
  }
  return {text.data(), length};
}

void append_start(std::string& out, int status, const ReplyFraming& framing) {
  out += "HTTP/1.1 ";
  append_json_int(out, status);
  out += ' ';
  out += reason_phrase(status);
  out += "\r\nDate: ";
  out += http_date();
  out += "\r\n";
  out += framing.headers;
  out += framing.keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n";
}

std::string_view error_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  if (status == 503) return "service_unavailable_error";
  return status < 500 ? "invalid_request_error" : "internal_error";
}

}  // namespace

HttpReply error_reply(int status, std::string_view message, std::string_view code) {
  HttpReply reply;
  reply.status = status;
  append_error(reply.body, message, error_type(status), code);
  return reply;
}

HttpReply error_reply(const Status& status, const FieldNames& names) {
  HttpReply reply;
  reply.status = http_status(status);
  append_error(reply.body, status, names);
  if (const int after = retry_after_s(status); after > 0) {
    reply.extra_headers = "Retry-After: " + std::to_string(after) + "\r\n";
  }
  if (reply.status == 401) reply.extra_headers += "WWW-Authenticate: Bearer\r\n";
  return reply;
}

void append_reply(std::string& out, const HttpReply& reply, const ReplyFraming& framing) {
  append_start(out, reply.status, framing);
  out += reply.extra_headers;
  if (reply.status != 204) {
    out += "Content-Type: ";
    out += reply.content_type;
    out += "\r\nContent-Length: ";
    append_json_int(out, static_cast<int64_t>(reply.body.size()));
    out += "\r\n";
  }
  out += "\r\n";
  if (!framing.head_only && reply.status != 204) out += reply.body;
}

void append_stream_head(std::string& out, bool chunked, const ReplyFraming& framing) {
  append_start(out, 200, framing);
  out += "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n";
  if (chunked) out += "Transfer-Encoding: chunked\r\n";
  out += "\r\n";
}

}  // namespace pelton
