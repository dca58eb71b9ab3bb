#include "server/http_io_thread.h"

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <exception>

#include "core/log.h"
#include "server/http_generation.h"
#include "server/http_reply.h"
#include "server/random_id.h"

namespace pelton {
namespace asio = boost::asio;
using asio::ip::tcp;
using Error = boost::system::error_code;

namespace {

// How long stop() waits for the last outputs of cancelled calls.
constexpr std::chrono::seconds kStopGrace{2};
// Connections beyond the limit that are still read, so that /health and /ready get their answer.
constexpr int kReservedConnections = 256;

std::chrono::milliseconds tick_period(const HttpOptions& options) {
  const auto shortest =
      std::min({options.keep_alive_timeout, options.header_timeout, options.body_timeout,
                options.write_timeout, options.sse_keep_alive});
  return std::clamp(shortest / 4, std::chrono::milliseconds(5), std::chrono::milliseconds(250));
}

}  // namespace

void HttpMailbox::deliver(std::vector<RequestOutput> outputs) {
  const std::lock_guard lock(mutex_);
  if (thread_ == nullptr) return;
  if (outputs_.empty()) {
    outputs_ = std::move(outputs);
  } else {
    outputs_.insert(outputs_.end(), std::make_move_iterator(outputs.begin()),
                    std::make_move_iterator(outputs.end()));
  }
  wake_locked();
}

void HttpMailbox::post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (thread_ == nullptr) return;
  tasks_.push_back(std::move(task));
  wake_locked();
}

void HttpMailbox::wake_locked() {
  if (awake_) return;
  awake_ = true;
  asio::post(thread_->context(), [self = shared_from_this()] { self->run(); });
}

void HttpMailbox::run() {
  std::vector<RequestOutput> outputs;
  std::vector<std::function<void()>> tasks;
  HttpIoThread* thread = nullptr;
  {
    const std::lock_guard lock(mutex_);
    awake_ = false;
    outputs.swap(outputs_);
    tasks.swap(tasks_);
    thread = thread_;
  }
  if (thread == nullptr) return;
  for (auto& task : tasks) task();
  if (!outputs.empty()) thread->take(std::move(outputs));
}

void HttpMailbox::close() {
  const std::lock_guard lock(mutex_);
  thread_ = nullptr;
  outputs_.clear();
  tasks_.clear();
}

HttpIoThread::HttpIoThread(HttpShared& shared, bool front)
    : shared_(shared),
      front_(front),
      mailbox_(std::make_shared<HttpMailbox>(this)),
      tick_timer_(context_),
      tick_period_(tick_period(shared.options)) {}

HttpIoThread::~HttpIoThread() {
  stop();
}

void HttpIoThread::start() {
  schedule_tick();
  if (acceptor_) accept_next();
  thread_ = std::thread([this] {
    for (;;) {
      try {
        context_.run();
        return;
      } catch (const std::exception& e) {
        // Out of memory while one connection was served: that one is lost, the others go on.
        log_error("http: a handler failed", {{"error", e.what()}});
      }
    }
  });
}

void HttpIoThread::stop() {
  if (!thread_.joinable()) return;
  mailbox_->post([this] { begin_stop(); });
  thread_.join();
}

void HttpIoThread::begin_stop() {
  stopping_ = true;
  stop_by_ = std::chrono::steady_clock::now() + kStopGrace;
  if (acceptor_) {
    Error ignored;
    acceptor_->close(ignored);
    accept_retry_->cancel();
  }
  for (HttpSession* session : sessions_) session->close();
  tick_timer_.cancel();
}

void HttpIoThread::listen(tcp::acceptor acceptor) {
  acceptor_ = std::make_unique<tcp::acceptor>(std::move(acceptor));
  accept_retry_ = std::make_unique<asio::steady_timer>(context_);
}

void HttpIoThread::accept_next() {
  acceptor_->async_accept([this](Error error, tcp::socket socket) {
    if (!acceptor_->is_open()) return;
    if (error) {
      // Out of file descriptors: the backlog keeps the connection until one is free again.
      accept_retry_->expires_after(std::chrono::milliseconds(50));
      accept_retry_->async_wait([this](Error cancelled) {
        if (!cancelled) accept_next();
      });
      return;
    }
    if (shared_.connections.fetch_add(1) >=
        shared_.options.max_connections + kReservedConnections) {
      refuse(std::move(socket));
      shared_.connections.fetch_sub(1);
    } else {
      std::make_shared<HttpSession>(std::move(socket), *this, shared_, HttpSession::Carried())
          ->start();
    }
    accept_next();
  });
}

// One try to say why; no state is kept for a connection too many.
void HttpIoThread::refuse(tcp::socket socket) {
  HttpReply reply = error_reply(503, "too many connections", "overloaded");
  reply.extra_headers = "Retry-After: 1\r\n";
  std::string out;
  const std::string named = "x-request-id: " + random_id("req-") + "\r\n";
  append_reply(out, reply, {.keep_alive = false, .headers = named});
  Error ignored;
  socket.non_blocking(true, ignored);
  socket.write_some(asio::buffer(out), ignored);
  socket.shutdown(tcp::socket::shutdown_send, ignored);
}

void HttpIoThread::adopt(int fd, tcp protocol, HttpSession::Carried carried) {
  auto shared_carried = std::make_shared<HttpSession::Carried>(std::move(carried));
  asio::post(context_, [this, fd, protocol, shared_carried] {
    tcp::socket socket(context_);
    Error error;
    socket.assign(protocol, fd, error);
    auto session = std::make_shared<HttpSession>(std::move(socket), *this, shared_,
                                                 std::move(*shared_carried));
    session->start();
    if (stopping_) session->close();
  });
}

void HttpIoThread::expect(RequestId id, std::shared_ptr<HttpGeneration> generation, int call) {
  expected_[id] = {std::move(generation), call};
  calls_in_flight_ = static_cast<int>(expected_.size());
}

// All deltas are merged into their requests first, then each request writes once: a thread that
// fell several steps behind sends one event for them.
void HttpIoThread::take(std::vector<RequestOutput> outputs) {
  touched_.clear();
  for (RequestOutput& output : outputs) {
    const auto found = expected_.find(output.id);
    if (found == expected_.end()) continue;
    const bool last = output.finished();
    const std::shared_ptr<HttpGeneration> generation = found->second.generation;
    const int call = found->second.call;
    if (last) expected_.erase(found);
    generation->take(call, std::move(output));
    HttpSession* session = generation->session();
    if (session != nullptr && session->mark_touched()) touched_.push_back(session);
  }
  calls_in_flight_ = static_cast<int>(expected_.size());
  for (HttpSession* session : touched_) session->on_outputs();
}

void HttpIoThread::schedule_tick() {
  tick_timer_.expires_after(tick_period_);
  tick_timer_.async_wait([this](Error) { tick(); });
}

void HttpIoThread::tick() {
  const TimePoint now = std::chrono::steady_clock::now();
  for (HttpSession* session : sessions_) session->tick(now);
  if (stopping_) {
    for (HttpSession* session : sessions_) session->close();
    if (sessions_.empty() && (expected_.empty() || now >= stop_by_)) {
      mailbox_->close();
      expected_.clear();
      return;  // nothing is left to run: the thread ends
    }
    tick_timer_.expires_after(std::chrono::milliseconds(1));
    tick_timer_.async_wait([this](Error) { tick(); });
    return;
  }
  schedule_tick();
}

}  // namespace pelton
