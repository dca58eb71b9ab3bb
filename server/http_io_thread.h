// One thread of the gateway and all that it owns: its connections and their running requests. A
// step's outputs come over the mailbox in one piece with one wake-up. Unless said otherwise, only
// the thread itself calls.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/request.h"
#include "scheduler/engine.h"
#include "server/http_server.h"
#include "server/http_session.h"

namespace pelton {

class HttpGeneration;
class HttpIoThread;

// How other threads reach an I/O thread; outlives it, and drops what comes after close().
// Thread-safe.
class HttpMailbox final : public OutputSink, public std::enable_shared_from_this<HttpMailbox> {
 public:
  explicit HttpMailbox(HttpIoThread* thread) : thread_(thread) {}
  void deliver(std::vector<RequestOutput> outputs) override;
  void post(std::function<void()> task);
  void close();

 private:
  void wake_locked();
  void run();  // on the I/O thread

  std::mutex mutex_;
  HttpIoThread* thread_;  // null once closed
  bool awake_ = false;    // run() is posted and has not begun
  std::vector<RequestOutput> outputs_;
  std::vector<std::function<void()>> tasks_;
};

// What all threads of one server share.
struct HttpShared {
  HttpOptions options;
  HttpDeps deps;
  std::atomic<int> connections{0};
  std::atomic<int64_t> body_bytes{0};
  std::atomic<bool> draining{false};
  std::atomic<unsigned> next_worker{0};
  std::vector<std::unique_ptr<HttpIoThread>> workers;
  std::unique_ptr<HttpIoThread> front;
};

class HttpIoThread {
 public:
  HttpIoThread(HttpShared& shared, bool front);
  ~HttpIoThread();

  void start();  // from outside
  void stop();   // from outside; joins
  // From any thread: the connection `fd` is this thread's from now on.
  void adopt(int fd, boost::asio::ip::tcp protocol, HttpSession::Carried carried);
  // Before start(): accepts from this listener.
  void listen(boost::asio::ip::tcp::acceptor acceptor);

  bool is_front() const { return front_; }
  boost::asio::io_context& context() { return context_; }
  const std::shared_ptr<HttpMailbox>& mailbox() const { return mailbox_; }
  // Calls whose last output is to come, and requests from their handling to their reply's last
  // byte.
  int in_flight() const { return calls_in_flight_ + replies_in_flight_; }
  std::atomic<int>& replies_in_flight() { return replies_in_flight_; }

  void add(HttpSession* session) { sessions_.insert(session); }
  void remove(HttpSession* session) { sessions_.erase(session); }
  // Outputs of `id` go to `generation`, until its last one.
  void expect(RequestId id, std::shared_ptr<HttpGeneration> generation, int call);
  void take(std::vector<RequestOutput> outputs);

 private:
  struct Expected {
    std::shared_ptr<HttpGeneration> generation;
    int call = 0;
  };
  void accept_next();
  void refuse(boost::asio::ip::tcp::socket socket);
  void schedule_tick();
  void tick();
  void begin_stop();

  HttpShared& shared_;
  const bool front_;
  boost::asio::io_context context_{1};
  std::shared_ptr<HttpMailbox> mailbox_;
  boost::asio::steady_timer tick_timer_;
  std::chrono::milliseconds tick_period_;
  std::unique_ptr<boost::asio::ip::tcp::acceptor> acceptor_;
  std::unique_ptr<boost::asio::steady_timer> accept_retry_;
  std::unordered_set<HttpSession*> sessions_;
  std::unordered_map<RequestId, Expected> expected_;
  std::vector<HttpSession*> touched_;  // reused
  std::atomic<int> calls_in_flight_{0};
  std::atomic<int> replies_in_flight_{0};
  bool stopping_ = false;
  TimePoint stop_by_{};
  std::thread thread_;
};

}  // namespace pelton
