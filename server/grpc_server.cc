#include "server/grpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "core/log.h"
#include "server/grpc_loop.h"
#include "server/grpc_methods.h"
#include "server/inference_service.h"

namespace pelton {
namespace {

constexpr std::chrono::milliseconds kHealthInterval{100};
constexpr int kMaxStreamsPerConnection = 1024;
constexpr int kMaxMetadataBytes = 16 << 10;
// What arriving messages may hold together, whoever sends them: beyond it the library reads no
// more, and gives up calls where that is not enough.
constexpr size_t kMaxArrivingBytes = size_t{512} << 20;
constexpr int kKeepaliveMs = 30'000;  // a client that vanished without a word is noticed

// What the library says goes where the server's log goes: it writes of clients' mistakes as of
// errors, and on a busy port at length.
void log_of_library(gpr_log_func_args* line) {
  log(LogLevel::kDebug, line->message, {{"source", "grpc"}});
}

void set_up(grpc::ServerBuilder& builder, const GrpcServerOptions& options) {
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetMaxSendMessageSize(-1);
  builder.SetResourceQuota(grpc::ResourceQuota("pelton").Resize(kMaxArrivingBytes));
  builder.SetDefaultCompressionAlgorithm(GRPC_COMPRESS_NONE);
  // A small request must not become a large one: compressed messages are refused.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a busy port must be an error
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
}

}  // namespace

struct GrpcServer::Parts {
  GrpcServices services;
  grpc::AsyncGenericService generic;
  std::unique_ptr<grpc::Server> server;
  std::vector<std::unique_ptr<GrpcLoop>> loops;  // first to go
};

StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::start(const GrpcServerOptions& options,
                                                        InferenceService* inference,
                                                        const Authenticator* auth) {
  gpr_set_log_function(&log_of_library);
  auto parts = std::make_unique<Parts>();
  parts->services = {inference, auth};
  grpc::ServerBuilder builder;
  set_up(builder, options);
  int port = 0;
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterAsyncGenericService(&parts->generic);
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  for (int i = 0; i < std::max(1, options.threads); ++i) {
    queues.push_back(builder.AddCompletionQueue());
  }
  parts->server = builder.BuildAndStart();
  if (parts->server == nullptr || port == 0) {
    for (auto& queue : queues) queue->Shutdown();
    return absl::UnavailableError(fmt::format(
        "cannot listen on {} for gRPC: the port is in use, or the address is not this machine's",
        options.address));
  }
  for (auto& queue : queues) {
    parts->loops.push_back(std::make_unique<GrpcLoop>(&parts->services, options.limits,
                                                      &parts->generic, std::move(queue)));
  }
  for (const auto& loop : parts->loops) loop->start();
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(parts), port));
}

GrpcServer::GrpcServer(std::unique_ptr<Parts> parts, int port)
    : parts_(std::move(parts)), port_(port), health_([this] { watch_health(); }) {}

GrpcServer::~GrpcServer() {
  shutdown(Duration::zero());
}

void GrpcServer::shutdown(Duration grace) {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  if (health_.joinable()) health_.join();
  if (std::exchange(shut_down_, true)) return;
  parts_->server->Shutdown(std::chrono::system_clock::now() +
                           std::chrono::duration_cast<std::chrono::microseconds>(grace));
  for (const auto& loop : parts_->loops) loop->stop();
  parts_->loops.clear();  // joins
}

void GrpcServer::watch_health() {
  std::optional<bool> told;  // the first look always tells: somebody may have asked before it
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, kHealthInterval, [this] { return stopping_; })) {
    const bool ready = parts_->services.inference->ready();
    if (ready == told) continue;
    told = ready;
    for (const auto& loop : parts_->loops) loop->health_changed();
  }
}

}  // namespace pelton
