// Inference.Multiplex over gRPC: many requests on one stream, one message for what a step made for
// all of them.
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/grpc_methods.h"
#include "server/grpc_status.h"
#include "server/grpc_stream.h"
#include "server/inference_service.h"
#include "server/random_id.h"

namespace pelton {
namespace {

constexpr size_t kMaxOpen = 4096;  // requests of one stream
constexpr int kMaxErrors = 1024;   // refusals that wait to be written, before reading goes on

class MultiplexHandler final : public RpcHandler {
 public:
  MultiplexHandler(RpcStream& stream, const GrpcServices& services)
      : stream_(stream), services_(services) {}
  ~MultiplexHandler() override { cancel_all(); }

  void on_message(grpc::ByteBuffer message) override {
    v1::MultiplexRequest request;
    Status status = parse(message, &request);
    if (status.ok()) status = act(request);
    if (!status.ok()) fatal_ = status;
    flush();
    read_on();
  }
  void on_half_close() override {
    closing_ = true;
    flush();
  }
  void on_written() override {
    flush();
    read_on();
  }
  void on_cancel() override { cancel_all(); }

 private:
  // One request, from its start to its last item.
  struct Open final : OutputReceiver {
    MultiplexHandler* owner = nullptr;
    uint64_t tag = 0;
    bool chat = false;
    std::shared_ptr<Call> call;
    std::optional<RequestOutput> waiting;

    void on_output(RequestOutput output) override {
      if (waiting) {
        merge_output(*waiting, std::move(output));
        return;
      }
      waiting = std::move(output);
      owner->waiting_.push_back(this);
      owner->flush_after_step();
    }
  };

  // An error ends the whole stream: it can not be said of one tag.
  Status act(v1::MultiplexRequest& request) {
    const auto found = open_.find(request.tag());
    switch (request.action_case()) {
      case v1::MultiplexRequest::kCancel:
        if (found != open_.end() && request.cancel()) found->second->call->cancel();
        return absl::OkStatus();
      case v1::MultiplexRequest::kComplete:
      case v1::MultiplexRequest::kChat:
        break;
      case v1::MultiplexRequest::ACTION_NOT_SET:
        return invalid_field("action", "complete, chat or cancel must be set");
    }
    if (found != open_.end()) {
      return invalid_field("tag", "is that of a request which is still open");
    }
    if (const Status status = start(request); !status.ok())
      add_error(request.tag(), status, refused_);
    return absl::OkStatus();
  }

  Status start(v1::MultiplexRequest& request) {
    if (open_.size() >= kMaxOpen) {
      return overloaded("too many requests are open on this stream", std::chrono::seconds(1));
    }
    auto open = std::make_unique<Open>();
    open->owner = this;
    open->tag = request.tag();
    open->chat = request.has_chat();
    CallContext context{random_id(open->chat ? "chatcmpl-" : "cmpl-"), stream_.tenant(),
                        stream_.deadline(), stream_.client_request_id()};
    InferenceService& service = *services_.inference;
    const auto sink = stream_.loop().mailbox();
    PELTON_ASSIGN_OR_RETURN(
        open->call,
        open->chat
            ? service.start(std::move(*request.mutable_chat()), std::move(context), sink)
            : service.start(std::move(*request.mutable_complete()), std::move(context), sink));
    stream_.loop().add_receiver(open->call->id(), open.get());
    open_.emplace(open->tag, std::move(open));
    return absl::OkStatus();
  }

  void flush_after_step() {
    if (std::exchange(flush_planned_, true)) return;
    stream_.loop().after_step(stream_.key(), [this] {
      flush_planned_ = false;
      flush();
    });
  }

  // Writes all that waits as one message, unless one is in flight: then it goes on merging.
  void flush() {
    if (stream_.write_in_flight()) return;
    if (!fatal_.ok()) return stream_.finish(fatal_);
    v1::MultiplexResponse& message = refused_;
    for (Open* open : std::exchange(waiting_, {})) add_items(*open, message);
    if (message.items_size() > 0) {
      stream_.write(serialize(message));
      message.Clear();
    } else if (closing_ && open_.empty()) {
      stream_.finish(absl::OkStatus());
    }
  }

  void add_items(Open& open, v1::MultiplexResponse& message) {
    const RequestOutput output = *std::exchange(open.waiting, std::nullopt);
    const bool failed = !output.status.ok();
    auto* item = message.add_items();
    item->set_tag(open.tag);
    if (open.chat) {
      open.call->fill(output, item->mutable_chat());
    } else {
      open.call->fill(output, item->mutable_complete());
    }
    if (!output.finished()) return;
    if (failed && output.tokens.empty()) message.mutable_items()->RemoveLast();
    if (failed) {
      add_error(open.tag, output.status, message);
    } else {
      item->set_last(true);
    }
    stream_.loop().remove_receiver(open.call->id());
    open_.erase(open.tag);
  }

  static void add_error(uint64_t tag, const Status& status, v1::MultiplexResponse& message) {
    auto* item = message.add_items();
    item->set_tag(tag);
    *item->mutable_error() = to_rpc_status(status);
    item->set_last(true);
  }

  // One read at a time, and none while refusals pile up unread.
  void read_on() {
    if (closing_ || !fatal_.ok() || stream_.read_in_flight() || refused_.items_size() >= kMaxErrors)
      return;
    stream_.read();
  }

  void cancel_all() {
    for (const auto& [tag, open] : open_) {
      stream_.loop().remove_receiver(open->call->id());
      open->call->cancel();
    }
    waiting_.clear();
    open_.clear();
  }

  RpcStream& stream_;
  const GrpcServices& services_;
  std::unordered_map<uint64_t, std::unique_ptr<Open>> open_;  // by tag
  std::vector<Open*> waiting_;                                // those with something to write
  v1::MultiplexResponse refused_;  // items that wait, and the message that is built on them
  Status fatal_;                   // how the stream ends as soon as no write is in flight
  bool flush_planned_ = false;
  bool closing_ = false;
};

}  // namespace

std::span<const RpcMethod> multiplex_methods() {
  static constexpr RpcMethod kMethods[] = {
      {"/pelton.v1.Inference/Multiplex", false, &make_handler<MultiplexHandler>, true},
  };
  return kMethods;
}

}  // namespace pelton
