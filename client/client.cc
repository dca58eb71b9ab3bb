#include "client/client.h"

#include <grpcpp/grpcpp.h>

#include <mutex>
#include <set>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "pelton/v1/inference.grpc.pb.h"
#include "pelton/v1/models.grpc.pb.h"

namespace pelton {
namespace {

// gRPC's codes are absl's, number for number.
Status to_status(const grpc::Status& grpc_status) {
  if (grpc_status.ok()) return absl::OkStatus();
  Status status(static_cast<absl::StatusCode>(grpc_status.error_code()),
                grpc_status.error_message());
  google::rpc::Status details;
  if (!details.ParseFromString(grpc_status.error_details())) return status;
  for (const auto& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&info)) {
      set_error_reason(status, info.reason());
    } else if (any.UnpackTo(&bad_request) && bad_request.field_violations_size() > 0) {
      set_error_field(status, bad_request.field_violations(0).field());
    } else if (any.UnpackTo(&retry)) {
      set_error_retry_after(status,
                            std::chrono::milliseconds(retry.retry_delay().seconds() * 1000 +
                                                      retry.retry_delay().nanos() / 1000000));
    }
  }
  return status;
}

bool is_loopback(std::string_view server) {
  return server.starts_with("127.") || server.starts_with("localhost:") ||
         server.starts_with("[::1]");
}

}  // namespace

struct Cancellation::State {
  std::mutex mutex;
  bool cancelled = false;
  std::set<grpc::ClientContext*> running;
};

Cancellation::Cancellation() : state_(std::make_shared<State>()) {}
Cancellation::~Cancellation() = default;

void Cancellation::cancel() {
  const std::lock_guard lock(state_->mutex);
  state_->cancelled = true;
  for (grpc::ClientContext* context : state_->running) context->TryCancel();
}

bool Cancellation::cancelled() const {
  const std::lock_guard lock(state_->mutex);
  return state_->cancelled;
}

class Client::Impl {
 public:
  explicit Impl(const ClientOptions& options) : options_(options) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(64 << 20);
    // A proxy of the environment knows nothing of this machine's own addresses.
    if (is_loopback(options.server)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel_ =
        grpc::CreateCustomChannel(options.server, grpc::InsecureChannelCredentials(), arguments);
    inference = v1::Inference::NewStub(channel_);
    models = v1::Models::NewStub(channel_);
    health = grpc::health::v1::Health::NewStub(channel_);
  }

  // A context that can be cancelled while it lives.
  class Context {
   public:
    Context(const ClientOptions& options, std::shared_ptr<Cancellation::State> state)
        : state_(std::move(state)) {
      if (!options.api_key.empty()) {
        context.AddMetadata("authorization", "Bearer " + options.api_key);
      }
      if (options.timeout.count() > 0) {
        context.set_deadline(std::chrono::system_clock::now() + options.timeout);
      }
      if (!state_) return;
      const std::lock_guard lock(state_->mutex);
      state_->running.insert(&context);
      if (state_->cancelled) context.TryCancel();
    }
    ~Context() {
      if (!state_) return;
      const std::lock_guard lock(state_->mutex);
      state_->running.erase(&context);
    }
    grpc::ClientContext context;

   private:
    std::shared_ptr<Cancellation::State> state_;
  };

  // One unary call: (stub.*method)(context, request, &response).
  template <typename Response, typename Stub, typename Method, typename Request>
  StatusOr<Response> unary(Stub& stub, Method method, const Request& request,
                           std::shared_ptr<Cancellation::State> state = nullptr) {
    Context context(options_, std::move(state));
    Response response;
    const Status status = to_status((stub.*method)(&context.context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  template <typename Response, typename Method, typename Request, typename OnMessage>
  Status stream(Method method, const Request& request, const OnMessage& on_message,
                std::shared_ptr<Cancellation::State> state) {
    Context context(options_, std::move(state));
    auto reader = ((*inference).*method)(&context.context, request);
    Response message;
    while (reader->Read(&message)) {
      if (!on_message(message)) context.context.TryCancel();
    }
    return to_status(reader->Finish());
  }

  std::unique_ptr<v1::Inference::Stub> inference;
  std::unique_ptr<v1::Models::Stub> models;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;

 private:
  ClientOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
};

Client::Client(const ClientOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Client::~Client() = default;

StatusOr<v1::CompleteResponse> Client::complete(const v1::CompleteRequest& request,
                                                Cancellation* cancellation) {
  return impl_->unary<v1::CompleteResponse>(*impl_->inference, &v1::Inference::Stub::Complete,
                                            request, cancellation ? cancellation->state_ : nullptr);
}

StatusOr<v1::ChatResponse> Client::chat(const v1::ChatRequest& request,
                                        Cancellation* cancellation) {
  return impl_->unary<v1::ChatResponse>(*impl_->inference, &v1::Inference::Stub::Chat, request,
                                        cancellation ? cancellation->state_ : nullptr);
}

Status Client::complete_stream(
    const v1::CompleteRequest& request,
    const std::function<bool(const v1::CompleteStreamResponse&)>& on_message,
    Cancellation* cancellation) {
  return impl_->stream<v1::CompleteStreamResponse>(&v1::Inference::Stub::CompleteStream, request,
                                                   on_message,
                                                   cancellation ? cancellation->state_ : nullptr);
}

Status Client::chat_stream(const v1::ChatRequest& request,
                           const std::function<bool(const v1::ChatStreamResponse&)>& on_message,
                           Cancellation* cancellation) {
  return impl_->stream<v1::ChatStreamResponse>(&v1::Inference::Stub::ChatStream, request,
                                               on_message,
                                               cancellation ? cancellation->state_ : nullptr);
}

StatusOr<v1::TokenizeResponse> Client::tokenize(const v1::TokenizeRequest& request) {
  return impl_->unary<v1::TokenizeResponse>(*impl_->inference, &v1::Inference::Stub::Tokenize,
                                            request);
}

StatusOr<v1::DetokenizeResponse> Client::detokenize(const v1::DetokenizeRequest& request) {
  return impl_->unary<v1::DetokenizeResponse>(*impl_->inference, &v1::Inference::Stub::Detokenize,
                                              request);
}

StatusOr<v1::ListModelsResponse> Client::list_models() {
  return impl_->unary<v1::ListModelsResponse>(*impl_->models, &v1::Models::Stub::List,
                                              v1::ListModelsRequest());
}

StatusOr<v1::Model> Client::get_model(const std::string& name) {
  v1::GetModelRequest request;
  request.set_name(name);
  return impl_->unary<v1::Model>(*impl_->models, &v1::Models::Stub::Get, request);
}

StatusOr<bool> Client::healthy(const std::string& service) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  PELTON_ASSIGN_OR_RETURN(const auto response,
                          impl_->unary<grpc::health::v1::HealthCheckResponse>(
                              *impl_->health, &grpc::health::v1::Health::Stub::Check, request));
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

}  // namespace pelton
