// A connection while its request runs: deltas are sent straight from here, without waiting, and a
// client that left, or that takes no more, ends its request.
#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>

#include "server/http_generation.h"
#include "server/http_io_thread.h"

namespace pelton {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {
constexpr size_t kMaxPipelined = size_t{16} << 10;
}

// Reads on while the request runs: the end of the stream means that nobody waits for the answer.
// Requests that follow are kept up to a bound; beyond it only a hang-up is looked for.
void HttpSession::watch_client() {
  watch_full_ = buffer_.size() >= kMaxPipelined;
  if (watch_full_) return;
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this(), watch = watch_](
                                                 Error error) { self->on_readable(watch, error); });
}

void HttpSession::on_readable(uint64_t watch, Error error) {
  if (watch != watch_ || error == asio::error::operation_aborted) return;
  if (!error) {
    const auto space = buffer_.prepare(kMaxPipelined);
    const size_t got = socket_.read_some(space, error);
    buffer_.commit(got);
    if (error == asio::error::would_block) error = {};
  }
  if (error) {
    give_up();
  } else {
    watch_client();
  }
}

void HttpSession::stop_watching() {
  ++watch_;
  Error ignored;
  socket_.cancel(ignored);
}

bool HttpSession::client_hung_up() const {
  pollfd poller{};
  poller.fd = const_cast<tcp::socket&>(socket_).native_handle();
  poller.events = POLLRDHUP;
  return ::poll(&poller, 1, 0) > 0 && (poller.revents & (POLLRDHUP | POLLERR | POLLHUP)) != 0;
}

bool HttpSession::mark_touched() {
  const bool first = !touched_;
  touched_ = true;
  return first;
}

void HttpSession::on_outputs() {
  touched_ = false;
  if (gone_ || generation_ == nullptr) return;
  if (watch_full_ && client_hung_up()) {
    give_up();
  } else if (generation_->streamed()) {
    pump();
  } else if (generation_->settled()) {
    wake();
  }
}

void HttpSession::pump() {
  if (write_blocked_) {
    if (generation_->waiting_bytes() > shared_.options.max_stream_backlog_bytes) give_up();
    return;
  }
  if (!stream_open_) {
    if (!generation_->failure().ok()) {  // before the first event: a plain error
      wake();
      return;
    }
    if (!generation_->has_waiting()) return;
    stream_open_ = true;
    const bool chunked = parser_->get().version() >= 11;
    if (!chunked || shared_.draining.load(std::memory_order_relaxed)) keep_alive_ = false;
    append_stream_head(out_, chunked, {.keep_alive = keep_alive_, .headers = shared_headers_});
  }
  if (stream_ended_) return;
  generation_->append_events(out_, sse_);
  stream_ended_ = generation_->settled();
  flush();
}

// Sends without waiting; what the client does not take stays, and later deltas merge meanwhile.
void HttpSession::flush() {
  const int fd = socket_.native_handle();
  while (out_sent_ < out_.size()) {
    const ssize_t sent =
        ::send(fd, out_.data() + out_sent_, out_.size() - out_sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      out_sent_ += static_cast<size_t>(sent);
      continue;
    }
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      write_blocked_ = true;
      set_deadline(shared_.options.write_timeout);
      socket_.async_wait(tcp::socket::wait_write,
                         [self = shared_from_this(), watch = watch_](Error error) {
                           self->on_writable(watch, error);
                         });
      return;
    }
    give_up();
    return;
  }
  out_.clear();
  out_sent_ = 0;
  deadline_ = TimePoint::max();
  last_write_ = std::chrono::steady_clock::now();
  if (stream_ended_) wake();
}

void HttpSession::on_writable(uint64_t watch, Error error) {
  if (watch != watch_ || gone_ || generation_ == nullptr) return;
  if (error) {
    give_up();
    return;
  }
  write_blocked_ = false;
  flush();
  if (!write_blocked_ && !gone_ && generation_->has_waiting()) pump();
}

void HttpSession::give_up() {
  if (gone_) return;
  gone_ = true;
  if (generation_ != nullptr) generation_->abandon();
  wake();
}

void HttpSession::wake() {
  wake_timer_.cancel();
}

void HttpSession::tick(TimePoint now) {
  if (now >= deadline_) {
    timed_out_ = true;
    if (generation_ != nullptr) {
      give_up();
    } else {
      Error ignored;
      socket_.cancel(ignored);
    }
    return;
  }
  if (generation_ == nullptr || gone_) return;
  if (watch_full_ && client_hung_up()) {
    give_up();
    return;
  }
  if (!generation_->streamed() || write_blocked_ || stream_ended_ ||
      now - last_write_ < shared_.options.sse_keep_alive) {
    return;
  }
  if (!stream_open_) {
    stream_open_ = true;
    const bool chunked = parser_->get().version() >= 11;
    if (!chunked) keep_alive_ = false;
    append_stream_head(out_, chunked, {.keep_alive = keep_alive_, .headers = shared_headers_});
  }
  sse_.comment(out_, "keep-alive");
  flush();
}

}  // namespace pelton
