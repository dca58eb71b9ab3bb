// One connection: reads requests one after the other with limits and timeouts, answers each, and
// notices a client that left or reads too slowly. A coroutine on one I/O thread; all members belong
// to that thread. It keeps itself alive until its coroutine ends.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "server/http_reply.h"
#include "server/http_router.h"
#include "server/sse_writer.h"

namespace pelton {

class HttpGeneration;
class HttpIoThread;
struct HttpShared;

class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  // A request whose header another thread has read.
  struct Carried {
    boost::beast::flat_buffer buffer;
    std::unique_ptr<Parser> parser;
  };

  HttpSession(boost::asio::ip::tcp::socket socket, HttpIoThread& thread, HttpShared& shared,
              Carried carried);
  ~HttpSession();

  void start();
  // Ends it as soon as its coroutine runs; a running request is cancelled at once.
  void close();
  // Timeouts, keep-alive comments; called several times a second.
  void tick(TimePoint now);
  // The running request has new outputs. mark_touched is true once until then.
  void on_outputs();
  bool mark_touched();

 private:
  template <typename T = void>
  using Awaitable = boost::asio::awaitable<T>;
  using Error = boost::system::error_code;
  enum class Read : uint8_t { kOk, kClosed, kFailed };  // kFailed: reply_ says why

  // http_session.cc: the connection
  Awaitable<> run();
  Awaitable<bool> serve_one();           // false: the connection is done
  Awaitable<bool> answer(bool proceed);  // false: not written
  Awaitable<Read> read_header();
  Awaitable<Read> read_body();
  Awaitable<bool> write_reply();
  Awaitable<bool> write_out();  // all of out_, waiting for the client
  Awaitable<> linger();
  void note_parse_error(Error error);
  bool reserve_body(size_t total);
  void release_body();
  void hand_off();
  void set_deadline(std::chrono::milliseconds timeout);

  // http_inspect.cc: what the header alone decides
  void name_request(std::string_view asked_for);  // x-request-id
  bool inspect_header();                          // false: reply_ says why not
  bool inspect_framing();
  bool inspect_body_headers();
  bool answer_preflight();

  // http_handlers.cc: the routes
  Awaitable<> handle();
  void handle_models();
  Awaitable<> sleep();
  Awaitable<> await_pool(std::function<bool()> answered);
  Awaitable<> handle_tokenize();
  Awaitable<> handle_detokenize();
  Awaitable<> handle_generation();
  Status start_generation();

  // http_stream.cc: a running request
  void watch_client();
  void on_readable(uint64_t watch, Error error);
  void stop_watching();
  bool client_hung_up() const;
  void pump();
  void flush();
  void on_writable(uint64_t watch, Error error);
  void give_up();  // the client is gone or too slow
  void wake();

  boost::asio::ip::tcp::socket socket_;
  HttpIoThread& thread_;
  HttpShared& shared_;
  boost::beast::flat_buffer buffer_;
  std::unique_ptr<Parser> parser_;
  bool carried_ = false;

  // The request at hand.
  RouteMatch route_;
  HttpReply reply_;
  std::string tenant_;
  std::string request_id_;      // the client's where it is clean, else ours
  std::string shared_headers_;  // x-request-id, CORS
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool body_unread_ = false;
  bool streamed_ = false;  // the answer went out as a stream, reply_ is not used
  int64_t body_reserved_ = 0;

  // Its generation.
  std::shared_ptr<HttpGeneration> generation_;
  SseWriter sse_;
  bool touched_ = false;
  bool stream_open_ = false;    // the stream's head is written
  bool stream_ended_ = false;   // and its end
  bool write_blocked_ = false;  // out_ waits for the client
  bool watch_full_ = false;     // pipelined bytes fill the buffer: reading on has stopped
  uint64_t watch_ = 0;          // outdates the handlers of earlier requests
  TimePoint last_write_{};

  std::string out_;
  size_t out_sent_ = 0;
  boost::asio::steady_timer wake_timer_;
  TimePoint deadline_ = TimePoint::max();
  bool timed_out_ = false;
  bool served_ = false;  // a first request was answered
  bool closing_ = false;
  bool gone_ = false;
  bool handed_off_ = false;
};

}  // namespace pelton
