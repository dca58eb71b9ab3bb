// C++ client of a Pelton server over gRPC. Thread-safe: calls may run side by side on one Client.
// Every call blocks until it ends; streams call back on the calling thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "core/status.h"
#include "pelton/v1/inference.pb.h"
#include "pelton/v1/models.pb.h"

namespace pelton {

struct ClientOptions {
  std::string server = "127.0.0.1:8001";  // host:port, no TLS
  std::string api_key;                    // sent as a bearer token; empty: none
  std::chrono::milliseconds timeout{0};   // deadline of each call; 0: none
};

// Cancels calls from another thread, or a signal's watcher. Once cancelled it stays so.
class Cancellation {
 public:
  Cancellation();
  ~Cancellation();
  void cancel();
  bool cancelled() const;

 private:
  friend class Client;
  struct State;
  std::shared_ptr<State> state_;
};

// Errors keep the server's code, message and details (core/status.h reads reason, field and retry
// time). A server that can not be reached is UNAVAILABLE; a cancelled call CANCELLED.
class Client {
 public:
  explicit Client(const ClientOptions& options);
  ~Client();

  StatusOr<v1::CompleteResponse> complete(const v1::CompleteRequest& request,
                                          Cancellation* cancellation = nullptr);
  StatusOr<v1::ChatResponse> chat(const v1::ChatRequest& request,
                                  Cancellation* cancellation = nullptr);

  // `on_message` gets each delta as it comes; returning false cancels the call.
  Status complete_stream(const v1::CompleteRequest& request,
                         const std::function<bool(const v1::CompleteStreamResponse&)>& on_message,
                         Cancellation* cancellation = nullptr);
  Status chat_stream(const v1::ChatRequest& request,
                     const std::function<bool(const v1::ChatStreamResponse&)>& on_message,
                     Cancellation* cancellation = nullptr);

  StatusOr<v1::TokenizeResponse> tokenize(const v1::TokenizeRequest& request);
  StatusOr<v1::DetokenizeResponse> detokenize(const v1::DetokenizeRequest& request);

  StatusOr<v1::ListModelsResponse> list_models();
  StatusOr<v1::Model> get_model(const std::string& name);

  // Whether the server says SERVING. "" asks for the server as a whole.
  StatusOr<bool> healthy(const std::string& service = "");

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pelton
