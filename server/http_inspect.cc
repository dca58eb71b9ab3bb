// What a connection refuses by a request's header alone, before its body is read.
#include <algorithm>
#include <boost/beast/core/string.hpp>

#include "server/auth.h"
#include "server/http_io_thread.h"
#include "server/random_id.h"

namespace pelton {
namespace http = boost::beast::http;

namespace {

constexpr size_t kMaxRequestedHeaders = 1024;  // of a preflight, bytes

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

bool alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool only(std::string_view text, std::string_view others) {
  return std::all_of(text.begin(), text.end(), [others](char c) {
    return alphanumeric(c) || others.find(c) != std::string_view::npos;
  });
}

// A list of header names (RFC 9110 5.6.2) that may be sent back as it came.
bool clean_header_list(std::string_view names) {
  return !names.empty() && names.size() <= kMaxRequestedHeaders && only(names, "!#$%&'*+-.^_`|~, ");
}

}  // namespace

void HttpSession::name_request(std::string_view asked_for) {
  request_id_ = request_name(asked_for);
  shared_headers_ = "x-request-id: " + request_id_ + "\r\n";
}

// Everything that can be refused before the body is read, cheapest first; the key before the route,
// so that without one nothing is told but /health and /ready.
bool HttpSession::inspect_header() {
  const auto& header = parser_->get();
  keep_alive_ = header.keep_alive();
  head_only_ = header.method() == http::verb::head;
  if (!inspect_framing()) return false;
  if (header.version() >= 11 && header.count(http::field::host) != 1) {
    reply_ = error_reply(400, "exactly one Host header is needed", "malformed_request");
    return false;
  }
  if (answer_preflight()) return false;
  if (shared_.deps.auth != nullptr && !(route_.route != nullptr && route_.route->open)) {
    std::optional<std::string_view> key;
    if (header.count(http::field::authorization) == 1) {
      key = view(header[http::field::authorization]);
    }
    StatusOr<std::string> tenant = shared_.deps.auth->tenant(key);
    if (!tenant.ok()) {
      reply_ = error_reply(tenant.status(), FieldNames());
      return false;
    }
    tenant_ = *std::move(tenant);
  }
  if (route_.route == nullptr && !route_.allow.empty()) {
    reply_ = error_reply(405, "this method is not allowed here", "method_not_allowed");
    reply_.extra_headers = "Allow: " + route_.allow + "\r\n";
    return false;
  }
  if (route_.route == nullptr) {
    reply_ = error_reply(404, "there is no such route", "unknown_route");
    return false;
  }
  return inspect_body_headers();
}

// Where the body would end must be the same for us and for any proxy before us (RFC 9112 6.1, 6.3).
bool HttpSession::inspect_framing() {
  const auto& header = parser_->get();
  const auto codings = header.count(http::field::transfer_encoding);
  if (codings == 0) return true;
  const char* fault = nullptr;
  if (header.count(http::field::content_length) > 0) {
    fault = "both Content-Length and Transfer-Encoding";
  } else if (header.version() < 11) {
    fault = "Transfer-Encoding needs HTTP/1.1";
  } else if (codings != 1 || !parser_->chunked() ||
             !boost::beast::iequals(header[http::field::transfer_encoding], "chunked")) {
    fault = "chunked is the one Transfer-Encoding that is accepted";
  }
  if (fault == nullptr) return true;
  reply_ = error_reply(400, fault, "malformed_request");
  body_unread_ = true;
  keep_alive_ = false;
  return false;
}

bool HttpSession::inspect_body_headers() {
  const auto& header = parser_->get();
  const std::string_view encoding = view(header[http::field::content_encoding]);
  if (!encoding.empty() && encoding != "identity") {
    reply_ = error_reply(415, "compressed bodies are not accepted", "unsupported_media_type");
    return false;
  }
  const std::string_view type = view(header[http::field::content_type]);
  std::string_view essence = type.substr(0, type.find(';'));
  while (essence.ends_with(' ') || essence.ends_with('\t')) essence.remove_suffix(1);
  if (route_.route->method == "POST" && !essence.empty() &&
      !boost::beast::iequals({essence.data(), essence.size()}, "application/json")) {
    reply_ = error_reply(415, "the body must be application/json", "unsupported_media_type");
    return false;
  }
  if (header.count(http::field::expect) > 0 &&
      !boost::beast::iequals(header[http::field::expect], "100-continue")) {
    reply_ = error_reply(417, "this expectation is not known", "expectation_failed");
    return false;
  }
  const auto length = parser_->content_length();
  if (length && *length > shared_.options.max_body_bytes) {
    reply_ = error_reply(413, "the request's body is too large", "body_too_large");
    return false;
  }
  if (length && !reserve_body(*length)) {
    reply_ = error_reply(overloaded("too many request bodies at once", std::chrono::seconds(1)),
                         FieldNames());
    return false;
  }
  return true;
}

// Adds the CORS headers; true where the request was a preflight, which is then answered.
bool HttpSession::answer_preflight() {
  const auto& header = parser_->get();
  const std::string_view origin = view(header[http::field::origin]);
  const auto& allowed = shared_.options.cors_origins;
  if (origin.empty() || allowed.empty()) return false;
  const bool any = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (!any && std::find(allowed.begin(), allowed.end(), origin) == allowed.end()) return false;
  shared_headers_ += "Access-Control-Allow-Origin: ";
  shared_headers_ += any ? "*" : origin;
  shared_headers_ += "\r\nVary: Origin\r\nAccess-Control-Expose-Headers: x-request-id\r\n";
  if (header.method() != http::verb::options ||
      header.count(http::field::access_control_request_method) == 0) {
    return false;
  }
  reply_.status = 204;
  // OpenAI's own client sends many headers of its own: what is asked for is allowed.
  std::string_view names = "authorization, content-type, x-request-id";
  if (header.count(http::field::access_control_request_headers) == 1) {
    const std::string_view asked = view(header[http::field::access_control_request_headers]);
    if (clean_header_list(asked)) names = asked;
  }
  reply_.extra_headers = "Access-Control-Allow-Methods: GET, HEAD, POST\r\n";
  reply_.extra_headers += "Access-Control-Allow-Headers: ";
  reply_.extra_headers += names;
  reply_.extra_headers += "\r\nAccess-Control-Max-Age: 600\r\n";
  return true;
}

}  // namespace pelton
