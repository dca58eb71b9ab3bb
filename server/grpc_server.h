// The gRPC front end: listens, and runs a few loops that serve pelton.v1.Inference and Models,
// grpc.health.v1 and reflection on the service core. Made, started and shut down by one thread.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/status.h"
#include "server/grpc_limits.h"

namespace pelton {

class Authenticator;
class InferenceService;

struct GrpcServerOptions {
  std::string address = "127.0.0.1:8001";  // host:port; port 0: any that is free
  int threads = 1;
  int max_message_bytes = 8 << 20;  // of a request
  GrpcLimits limits;                // of each thread
};

class GrpcServer {
 public:
  // `inference` and `auth` outlive it. UNAVAILABLE names the address when it can not be listened
  // on.
  static StatusOr<std::unique_ptr<GrpcServer>> start(const GrpcServerOptions& options,
                                                     InferenceService* inference,
                                                     const Authenticator* auth);
  ~GrpcServer();  // shuts down at once
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  int port() const { return port_; }  // the one that is bound

  // Takes no new connections or calls; open calls may end by themselves until `grace` is over, then
  // they are cancelled. Returns when the last one is gone. (Draining itself begins in the service
  // core: drain() there makes health say NOT_SERVING and refuses new requests.)
  void shutdown(Duration grace);

 private:
  struct Parts;
  GrpcServer(std::unique_ptr<Parts> parts, int port);
  void watch_health();

  const std::unique_ptr<Parts> parts_;
  const int port_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;
  bool shut_down_ = false;
  std::thread health_;  // tells Health.Watch of changes
};

}  // namespace pelton
