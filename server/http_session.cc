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
#include "server/http_generation.h"
#include "server/http_io_thread.h"

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

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
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
  streamed_ = head_only_ = body_unread_ = false;
  keep_alive_ = true;
  Read state = Read::kOk;
  if (!carried_) state = co_await read_header();
  carried_ = false;
  if (state == Read::kClosed) co_return false;
  bool proceed = false;
  name_request(state == Read::kOk ? view(parser_->get()["x-request-id"]) : "");
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
