// Complete and Chat over gRPC, streaming and unary: what an engine's outputs become on one stream.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "server/grpc_methods.h"
#include "server/grpc_stream.h"
#include "server/inference_service.h"
#include "server/random_id.h"

namespace pelton {

// What both share: a call of the service core, started by the client's one message.
template <typename Req>
class GenerateHandler : public RpcHandler, public OutputReceiver {
 public:
  GenerateHandler(RpcStream& stream, const GrpcServices& services)
      : stream_(stream), services_(services) {}
  ~GenerateHandler() override { leave(); }

  void on_message(grpc::ByteBuffer message) override {
    Req request;
    if (const Status status = parse(message, &request); !status.ok()) return stream_.finish(status);
    constexpr bool kChat = std::is_same_v<Req, v1::ChatRequest>;
    CallContext context{random_id(kChat ? "chatcmpl-" : "cmpl-"), stream_.tenant(),
                        stream_.deadline(), stream_.client_request_id()};
    auto call = services_.inference->start(std::move(request), std::move(context),
                                           stream_.loop().mailbox());
    if (!call.ok()) return stream_.finish(call.status());
    call_ = *std::move(call);
    // Its outputs wait in the mailbox, which this same thread empties.
    stream_.loop().add_receiver(call_->id(), this);
  }

  void on_cancel() override {
    if (call_ == nullptr) return;
    leave();
    call_->cancel();
    call_ = nullptr;
  }

 protected:
  // How the RPC ends after its last output.
  static Status end_status(const RequestOutput& last) {
    if (!last.status.ok() || last.finish_reason != FinishReason::kAbort) return last.status;
    return absl::CancelledError("the request was aborted");
  }
  void leave() {
    if (call_ != nullptr) stream_.loop().remove_receiver(call_->id());
  }

  RpcStream& stream_;
  const GrpcServices& services_;
  std::shared_ptr<Call> call_;
};

template <typename Req, typename Message>
class UnaryGenerateHandler final : public GenerateHandler<Req> {
 public:
  using GenerateHandler<Req>::GenerateHandler;

  void on_output(RequestOutput output) override {
    this->call_->accumulate(output, &answer_);
    if (!output.finished()) return;
    const Status status = this->end_status(output);
    if (!status.ok()) return this->stream_.finish(status);
    this->stream_.write_and_finish(serialize(answer_), status);
  }

 private:
  Message answer_;
};

// One write in flight; what comes meanwhile is merged into one message.
template <typename Req, typename Message>
class StreamGenerateHandler final : public GenerateHandler<Req> {
 public:
  using GenerateHandler<Req>::GenerateHandler;

  void on_output(RequestOutput output) override {
    if (!this->stream_.write_in_flight()) {
      send(output);
    } else if (waiting_) {
      merge_output(*waiting_, std::move(output));
    } else {
      waiting_ = std::move(output);
    }
  }

  void on_written() override {
    if (!waiting_) return;
    const RequestOutput output = *std::exchange(waiting_, std::nullopt);
    send(output);
  }

 private:
  void send(const RequestOutput& output) {
    message_.Clear();  // keeps its memory
    this->call_->fill(output, &message_);
    if (!output.finished()) return this->stream_.write(serialize(message_));
    const Status status = this->end_status(output);
    if (!status.ok() && output.tokens.empty()) return this->stream_.finish(status);
    this->stream_.write_and_finish(serialize(message_), status);
  }

  Message message_;
  std::optional<RequestOutput> waiting_;
};

}  // namespace pelton
