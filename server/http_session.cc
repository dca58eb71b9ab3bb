#include "server/http_session.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <exception>

#include "core/log.h"
#include "server/auth.h"
#include "server/http_generation.h"
#include "server/http_io_thread.h"
#include "server/random_id.h"

namespace pelton {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

namespace {

// A buffer for requests that follow the one at hand; more of them stay in the socket.
constexpr size_t kMaxPipelined = size_t{16} << 10;
// Read and thrown away after an error, so that the client gets to read the answer.
constexpr size_t kMaxLinger = size_t{16} << 20;
constexpr std::chrono::milliseconds kLingerTimeout{2000};
constexpr size_t kMaxRequestId = 128;

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

bool clean_request_id(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestId && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == ':' || c == '/' || c == '+' || c == '=';
  });
}

}  // namespace

HttpSession::HttpSession(tcp::socket socket, HttpIoThread& thread, HttpShared& shared,
                         Carried carried)
    : socket_(std::move(socket)),
      thread_(thread),
      shared_(shared),
      buffer_(std::move(carried.buffer)),
      parser_(std::move(carried.parser)),
      carried_(parser_ != nullptr),
      wake_timer_(thread.context()) {
  buffer_.max_size(kMaxPipelined + shared.options.max_header_bytes + (size_t{64} << 10));
  Error ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(tcp::no_delay(true), ignored);
  thread_.add(this);
}

HttpSession::~HttpSession() {
  release_body();
  if (generation_ != nullptr) generation_->abandon();
  thread_.remove(this);
  if (!handed_off_) shared_.connections.fetch_sub(1);
}

void HttpSession::start() {
  asio::co_spawn(
      thread_.context(), [self = shared_from_this()] { return self->run(); }, asio::detached);
}

void HttpSession::close() {
  closing_ = true;
  if (generation_ != nullptr) give_up();
  wake();
  Error ignored;
  socket_.cancel(ignored);
}

void HttpSession::set_deadline(std::chrono::milliseconds timeout) {
  timed_out_ = false;
  deadline_ = std::chrono::steady_clock::now() + timeout;
}

HttpSession::Awaitable<> HttpSession::run() {
  try {
    bool more = true;
    while (more && !closing_) more = co_await serve_one();
  } catch (const std::exception& e) {
    log_error("http: a connection failed", {{"error", e.what()}});
  }
  if (!handed_off_) {
    Error ignored;
    socket_.shutdown(tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
  }
}

HttpSession::Awaitable<bool> HttpSession::serve_one() {
  reply_ = HttpReply();
  shared_headers_.clear();
  streamed_ = head_only_ = body_unread_ = false;
  keep_alive_ = true;
  Read state = Read::kOk;
  if (!carried_) state = co_await read_header();
  carried_ = false;
  if (state == Read::kClosed) co_return false;
  bool proceed = false;
  if (state == Read::kOk) {
    const auto& header = parser_->get();
    route_ = match_route(view(header.method_string()), view(header.target()));
    const bool light = route_.route != nullptr && route_.route->light && parser_->is_done();
    const bool full = shared_.connections.load() > shared_.options.max_connections;
    if (thread_.is_front() && !light && !full) {
      hand_off();
      co_return false;
    }
    body_unread_ = !parser_->is_done();
    if (light || !full || !thread_.is_front()) {
      proceed = inspect_header();
    } else {
      reply_ = error_reply(503, "too many connections", "overloaded");
      reply_.extra_headers = "Retry-After: 1\r\n";
      keep_alive_ = false;
    }
  } else {
    keep_alive_ = false;
    body_unread_ = true;
  }
  if (proceed && body_unread_) {
    state = co_await read_body();
    if (state == Read::kClosed) co_return false;
    proceed = state == Read::kOk;
    body_unread_ = !proceed;
  }
  const bool written = co_await answer(proceed);
  if (gone_) co_return false;
  parser_.reset();
  served_ = true;
  if (written && body_unread_) co_await linger();
  co_return written&& keep_alive_;
}

// Counts as in flight until the last byte is written; a drain waits for that.
HttpSession::Awaitable<bool> HttpSession::answer(bool proceed) {
  struct Counted {
    std::atomic<int>& count;
    explicit Counted(std::atomic<int>& c) : count(c) { ++count; }
    ~Counted() { --count; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
  } const counted(thread_.replies_in_flight());
  if (proceed) co_await handle();
  release_body();
  if (gone_) co_return false;
  if (body_unread_ || closing_ || shared_.draining.load(std::memory_order_relaxed)) {
    keep_alive_ = false;
  }
  bool written = streamed_;
  if (!streamed_) written = co_await write_reply();
  co_return written;
}

HttpSession::Awaitable<HttpSession::Read> HttpSession::read_header() {
  Error error;
  if (buffer_.size() == 0) {
    // A new connection that says nothing takes a place from others: it gets less time.
    set_deadline(
        served_ ? shared_.options.keep_alive_timeout
                : std::min(shared_.options.keep_alive_timeout, shared_.options.header_timeout));
    co_await socket_.async_wait(tcp::socket::wait_read,
                                asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return Read::kClosed;  // idle for too long, or told to close
  }
  parser_ = std::make_unique<Parser>();
  parser_->header_limit(static_cast<std::uint32_t>(shared_.options.max_header_bytes));
  parser_->body_limit(boost::none);  // checked once the route is known
  set_deadline(shared_.options.header_timeout);
  co_await http::async_read_header(socket_, buffer_, *parser_,
                                   asio::redirect_error(asio::use_awaitable, error));
  deadline_ = TimePoint::max();
  if (!error) co_return Read::kOk;
  if (error == http::error::end_of_stream || error == http::error::partial_message || closing_) {
    co_return Read::kClosed;
  }
  note_parse_error(error);
  co_return reply_.status == 200 ? Read::kClosed : Read::kFailed;
}

HttpSession::Awaitable<HttpSession::Read> HttpSession::read_body() {
  Error error;
  if (parser_->get()[http::field::expect].size() > 0) {
    out_ = "HTTP/1.1 100 Continue\r\n\r\n";
    if (const bool written = co_await write_out(); !written) co_return Read::kClosed;
  }
  parser_->body_limit(shared_.options.max_body_bytes);
  set_deadline(shared_.options.body_timeout);
  while (!parser_->is_done()) {
    co_await http::async_read_some(socket_, buffer_, *parser_,
                                   asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    if (!reserve_body(parser_->get().body().size())) {
      deadline_ = TimePoint::max();
      reply_ = error_reply(overloaded("too many request bodies at once", std::chrono::seconds(1)),
                           FieldNames());
      co_return Read::kFailed;
    }
  }
  deadline_ = TimePoint::max();
  if (!error) co_return Read::kOk;
  note_parse_error(error);
  co_return reply_.status == 200 ? Read::kClosed : Read::kFailed;
}

// Leaves reply_ alone where there is nobody to answer.
void HttpSession::note_parse_error(Error error) {
  if (closing_) return;
  if (timed_out_) {
    reply_ = error_reply(408, "the request was not sent in time", "request_timeout");
  } else if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    reply_ = error_reply(431, "the request's header is too large", "header_too_large");
  } else if (error == http::error::body_limit) {
    reply_ = error_reply(413, "the request's body is too large", "body_too_large");
  } else if (error.category() == make_error_code(http::error::bad_method).category() &&
             error != http::error::end_of_stream && error != http::error::partial_message) {
    reply_ = error_reply(400, "malformed HTTP: " + error.message(), "malformed_request");
  }
}

bool HttpSession::reserve_body(size_t total) {
  const int64_t more = static_cast<int64_t>(total) - body_reserved_;
  if (more <= 0) return true;
  body_reserved_ += more;
  return shared_.body_bytes.fetch_add(more) + more <= shared_.options.max_buffered_body_bytes;
}

void HttpSession::release_body() {
  if (body_reserved_ > 0) shared_.body_bytes.fetch_sub(body_reserved_);
  body_reserved_ = 0;
}

// Everything that can be refused before the body is read, cheapest first; the key before the route,
// so that without one nothing is told but /health and /ready.
bool HttpSession::inspect_header() {
  const auto& header = parser_->get();
  keep_alive_ = header.keep_alive();
  head_only_ = header.method() == http::verb::head;
  const std::string_view id = view(header["x-request-id"]);
  request_id_ = clean_request_id(id) ? std::string(id) : random_id("req-");
  shared_headers_ += "x-request-id: " + request_id_ + "\r\n";
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

bool HttpSession::inspect_body_headers() {
  const auto& header = parser_->get();
  const std::string_view encoding = view(header[http::field::content_encoding]);
  if (!encoding.empty() && encoding != "identity") {
    reply_ = error_reply(415, "compressed bodies are not accepted", "unsupported_media_type");
    return false;
  }
  const std::string_view type = view(header[http::field::content_type]);
  const std::string_view essence = type.substr(0, type.find(';'));
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
  if (header.count(http::field::transfer_encoding) > 0 &&
      header.count(http::field::content_length) > 0) {  // request smuggling (RFC 9112 6.3)
    reply_ = error_reply(400, "both Content-Length and Transfer-Encoding", "malformed_request");
    body_unread_ = true;
    keep_alive_ = false;
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
  reply_.extra_headers =
      "Access-Control-Allow-Methods: GET, HEAD, POST\r\n"
      "Access-Control-Allow-Headers: authorization, content-type, x-request-id\r\n"
      "Access-Control-Max-Age: 600\r\n";
  return true;
}

void HttpSession::hand_off() {
  Error error;
  const auto protocol = socket_.local_endpoint(error).protocol();
  const int fd = error ? -1 : socket_.release(error);
  if (error || fd < 0) return;
  handed_off_ = true;
  release_body();
  const unsigned next = shared_.next_worker.fetch_add(1);
  shared_.workers[next % shared_.workers.size()]->adopt(fd, protocol,
                                                        {std::move(buffer_), std::move(parser_)});
}

HttpSession::Awaitable<bool> HttpSession::write_reply() {
  out_.clear();
  append_reply(out_, reply_,
               {.keep_alive = keep_alive_, .head_only = head_only_, .headers = shared_headers_});
  reply_.body = std::string();
  const bool written = co_await write_out();
  co_return written;
}

HttpSession::Awaitable<bool> HttpSession::write_out() {
  size_t sent = 0;
  while (sent < out_.size()) {
    Error error;
    sent += socket_.write_some(asio::buffer(out_.data() + sent, out_.size() - sent), error);
    if (error && error != asio::error::would_block) co_return false;
    if (sent == out_.size()) break;
    set_deadline(shared_.options.write_timeout);
    co_await socket_.async_wait(tcp::socket::wait_write,
                                asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
  }
  deadline_ = TimePoint::max();
  if (out_.capacity() > (size_t{64} << 10)) out_ = std::string();
  out_.clear();
  co_return true;
}

HttpSession::Awaitable<> HttpSession::linger() {
  Error error;
  socket_.shutdown(tcp::socket::shutdown_send, error);
  set_deadline(kLingerTimeout);
  std::array<char, 16384> waste;
  for (size_t total = 0; !error && total < kMaxLinger;) {
    co_await socket_.async_wait(tcp::socket::wait_read,
                                asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    total += socket_.read_some(asio::buffer(waste), error);
    if (error == asio::error::would_block) error = {};
  }
}

}  // namespace pelton
