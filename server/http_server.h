// The HTTP gateway: OpenAI-style JSON in front of the same service core as gRPC. One thread accepts
// connections and answers /health and /ready itself, so that these never wait behind other work;
// every other request moves, with its connection, to one of the I/O threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"

namespace pelton {

class Authenticator;
class InferenceService;

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address or a name
  uint16_t port = 0;               // 0: any free one
  int threads = 1;                 // I/O threads, the accepting one not counted

  size_t max_header_bytes = size_t{16} << 10;
  size_t max_body_bytes = size_t{8} << 20;
  int64_t max_buffered_body_bytes = int64_t{256} << 20;  // bodies of all connections; beyond: 429
  int max_connections = 4096;                            // beyond: 503, but for /health and /ready
  size_t max_stream_backlog_bytes = size_t{1} << 20;     // unsent deltas of one slow reader

  std::chrono::milliseconds keep_alive_timeout{75000};  // idle between two requests
  std::chrono::milliseconds header_timeout{10000};      // first byte to end of header
  std::chrono::milliseconds body_timeout{60000};
  std::chrono::milliseconds write_timeout{20000};   // no byte accepted by the client
  std::chrono::milliseconds sse_keep_alive{15000};  // silence before a comment is sent

  std::vector<std::string> cors_origins;  // empty: CORS is off; "*": any
};

struct HttpDeps {
  InferenceService* service = nullptr;   // outlives the server
  const Authenticator* auth = nullptr;   // null: open
  std::function<std::string()> metrics;  // the text of /metrics; null: 404
  std::function<bool()> live;            // /health; atomics only; null: always
};

struct HttpShared;

class HttpServer {
 public:
  // Errors: the address in use (named), not resolvable, not permitted.
  static StatusOr<std::unique_ptr<HttpServer>> start(HttpOptions options, HttpDeps deps);
  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const { return port_; }
  // Connections close after their current answer; the listener stays, so that /ready can say 503.
  void drain();
  // Closes everything; what is in flight is cancelled. Returns when all threads have ended.
  void stop();
  int connections() const;
  // Generations until their last output, and any request until its reply is written.
  int calls_in_flight() const;

 private:
  HttpServer() = default;

  std::unique_ptr<HttpShared> shared_;
  uint16_t port_ = 0;
};

}  // namespace pelton
