// pelton.v1.Inference over gRPC.
#include <atomic>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "pelton/v1/inference.pb.h"
#include "server/grpc_generate.h"
#include "server/grpc_unary.h"

namespace pelton {
namespace {

// A unary RPC that a worker answers: the answer comes back through the loop's mailbox, and finds
// the stream gone where the client left.
template <typename Req, typename Resp,
          Status (InferenceService::*kRun)(Req, std::function<void(StatusOr<Resp>)>,
                                           InferenceService::Wanted)>
class PooledHandler final : public RpcHandler {
 public:
  PooledHandler(RpcStream& stream, const GrpcServices& services)
      : stream_(stream), services_(services) {}

  void on_message(grpc::ByteBuffer message) override {
    Req request;
    if (const Status status = parse(message, &request); !status.ok()) return stream_.finish(status);
    auto done = [mailbox = stream_.loop().mailbox(), loop = &stream_.loop(),
                 key = stream_.key()](StatusOr<Resp> response) {
      const Status status = response.status();
      const grpc::ByteBuffer bytes = status.ok() ? serialize(*response) : grpc::ByteBuffer();
      mailbox->post([loop, key, status, bytes] {  // dropped once the loop has ended
        RpcStream* stream = loop->find(key);
        if (stream == nullptr) return;
        status.ok() ? stream->write_and_finish(bytes, status) : stream->finish(status);
      });
    };
    auto wanted = [left = left_] { return !*left; };
    const Status status =
        (services_.inference->*kRun)(std::move(request), std::move(done), std::move(wanted));
    if (!status.ok()) stream_.finish(status);
  }
  void on_cancel() override { *left_ = true; }

 private:
  RpcStream& stream_;
  const GrpcServices& services_;
  const std::shared_ptr<std::atomic<bool>> left_ = std::make_shared<std::atomic<bool>>(false);
};

StatusOr<v1::EmbedResponse> embed(const GrpcServices& services, const v1::EmbedRequest& request) {
  return services.inference->embed(request);
}
StatusOr<v1::RerankResponse> rerank(const GrpcServices& services,
                                    const v1::RerankRequest& request) {
  return services.inference->rerank(request);
}
StatusOr<v1::ClassifyResponse> classify(const GrpcServices& services,
                                        const v1::ClassifyRequest& request) {
  return services.inference->classify(request);
}

using CompleteUnary = UnaryGenerateHandler<v1::CompleteRequest, v1::CompleteResponse>;
using CompleteStream = StreamGenerateHandler<v1::CompleteRequest, v1::CompleteStreamResponse>;
using ChatUnary = UnaryGenerateHandler<v1::ChatRequest, v1::ChatResponse>;
using ChatStream = StreamGenerateHandler<v1::ChatRequest, v1::ChatStreamResponse>;
using Tokenize =
    PooledHandler<v1::TokenizeRequest, v1::TokenizeResponse, &InferenceService::tokenize>;
using Detokenize =
    PooledHandler<v1::DetokenizeRequest, v1::DetokenizeResponse, &InferenceService::detokenize>;
using Embed = UnaryHandler<v1::EmbedRequest, v1::EmbedResponse, &embed>;
using Rerank = UnaryHandler<v1::RerankRequest, v1::RerankResponse, &rerank>;
using Classify = UnaryHandler<v1::ClassifyRequest, v1::ClassifyResponse, &classify>;

}  // namespace

std::span<const RpcMethod> inference_methods() {
  static constexpr RpcMethod kMethods[] = {
      {"/pelton.v1.Inference/Complete", false, &make_handler<CompleteUnary>},
      {"/pelton.v1.Inference/CompleteStream", false, &make_handler<CompleteStream>},
      {"/pelton.v1.Inference/Chat", false, &make_handler<ChatUnary>},
      {"/pelton.v1.Inference/ChatStream", false, &make_handler<ChatStream>},
      {"/pelton.v1.Inference/Embed", false, &make_handler<Embed>},
      {"/pelton.v1.Inference/Rerank", false, &make_handler<Rerank>},
      {"/pelton.v1.Inference/Classify", false, &make_handler<Classify>},
      {"/pelton.v1.Inference/Tokenize", false, &make_handler<Tokenize>},
      {"/pelton.v1.Inference/Detokenize", false, &make_handler<Detokenize>},
  };
  return kMethods;
}

}  // namespace pelton
