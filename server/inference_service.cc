#include "server/inference_service.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>
#include <variant>
#include <vector>

#include "core/log.h"
#include "server/call.h"
#include "server/chat_json.h"
#include "server/convert.h"
#include "server/deadline_watch.h"
#include "server/model_host.h"
#include "server/output_mapping.h"
#include "server/worker_pool.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace pelton {
namespace {

constexpr std::chrono::milliseconds kRetryAfter{1000};

Status draining_error() {
  Status status = absl::UnavailableError("the server is shutting down");
  set_error_reason(status, "DRAINING");
  return status;
}

// Normalisation may make a text shorter, by far less than this.
constexpr int kNormalisationSlack = 4;

ModelLimits limits_of(ServedModel& model) {
  ModelLimits limits;
  limits.max_model_len =
      std::min(model.facts().max_model_len, model.engine().max_sequence_tokens());
  limits.vocab_size = model.facts().vocab_size;
  const Tokenizer* tokenizer = model.tokenizer();
  limits.has_tokenizer = tokenizer != nullptr;
  limits.has_chat_template = model.chat_template() != nullptr;
  if (tokenizer == nullptr) return limits;
  size_t longest = 0;
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    longest = std::max(longest, tokenizer->token_bytes(id).size());
  }
  limits.longest_token_bytes = kNormalisationSlack * static_cast<int>(longest);
  return limits;
}

StatusOr<std::vector<TokenId>> encode_chat(const v1::ChatRequest& request, std::string_view path,
                                           const ServedModel& model) {
  PELTON_ASSIGN_OR_RETURN(const ChatInputs inputs, chat_inputs(request, path));
  return model.chat_template()->encode(inputs);
}

StatusOr<std::vector<TokenId>> encode(const ConvertedRequest& request, const ServedModel& model) {
  if (const auto* chat = std::get_if<v1::ChatRequest>(&request.prompt)) {
    return encode_chat(*chat, "", model);
  }
  const auto& prompt = std::get<TextPrompt>(request.prompt);
  return model.tokenizer()->encode(prompt.text, prompt.add_special_tokens);
}

}  // namespace

class InferenceService::Impl {
 public:
  Impl(ModelHost* models, const Clock* clock, const InferenceServiceOptions& options)
      : models_(models),
        clock_(clock),
        options_(options),
        pool_({options.tokenizer_threads, options.max_tokenizing_requests,
               options.max_tokenizing_bytes}) {
    for (const auto& model : models->all()) limits_[model.get()] = limits_of(*model);
  }
  ~Impl() { stopping_ = true; }

  // start_call, and a line in the log for what it refuses.
  template <typename ApiRequest>
  StatusOr<std::shared_ptr<Call>> start(ApiRequest request, CallContext context,
                                        std::shared_ptr<OutputSink> sink);

  Status tokenize(v1::TokenizeRequest request,
                  std::function<void(StatusOr<v1::TokenizeResponse>)> done, Wanted wanted);
  Status detokenize(v1::DetokenizeRequest request,
                    std::function<void(StatusOr<v1::DetokenizeResponse>)> done, Wanted wanted);

  // What is declared, validated and then refused.
  template <typename ApiRequest>
  Status refuse_unbuilt(const ApiRequest& request, std::string_view why) const {
    PELTON_ASSIGN_OR_RETURN(const auto model, models_->find(request.model()));
    PELTON_RETURN_IF_ERROR(validate(request, limits(*model)));
    return unsupported_field("model", why);
  }

  ModelHost& models() { return *models_; }
  bool ready() const;
  void drain() { draining_ = true; }
  void end_all();
  bool idle() const;

 private:
  struct Counted {
    std::atomic<int>& count;
    explicit Counted(std::atomic<int>& c) : count(c) { ++count; }
    ~Counted() { --count; }
  };

  template <typename ApiRequest>
  StatusOr<std::shared_ptr<Call>> start_call(ApiRequest request, CallContext context,
                                             std::shared_ptr<OutputSink> sink);
  const ModelLimits& limits(const ServedModel& model) const { return limits_.at(&model); }
  Status admit(ServedModel& model) const;
  Status submit_job(int64_t bytes, std::function<void()> job);
  template <typename Response, typename Work>
  Status submit_work(int64_t bytes, Work work, std::function<void(StatusOr<Response>)> done,
                     Wanted wanted);
  void prepare(CallImpl& call);

  ModelHost* const models_;
  const Clock* const clock_;
  const InferenceServiceOptions options_;
  std::map<const ServedModel*, ModelLimits> limits_;
  const std::shared_ptr<std::atomic<int64_t>> in_flight_ =
      std::make_shared<std::atomic<int64_t>>(0);
  std::atomic<int> starting_ = 0;  // between the check of draining_ and being in flight
  std::atomic<bool> draining_ = false;
  std::atomic<bool> stopping_ = false;
  DeadlineWatch deadlines_;
  WorkerPool pool_;  // last: its jobs use all of the above
};

// Tokenising is refused before it costs anything when the engine could not queue the result.
Status InferenceService::Impl::admit(ServedModel& model) const {
  const int64_t waiting = model.engine().load().waiting_requests + pool_.jobs();
  if (waiting < model.facts().max_waiting_requests) return absl::OkStatus();
  return overloaded("too many requests are waiting", kRetryAfter);
}

Status InferenceService::Impl::submit_job(int64_t bytes, std::function<void()> job) {
  if (pool_.try_submit(bytes, std::move(job))) return absl::OkStatus();
  return overloaded("too many requests are being tokenized", kRetryAfter);
}

// Work that is a job by itself, unless the server exits or nobody waits any more by then.
template <typename Response, typename Work>
Status InferenceService::Impl::submit_work(int64_t bytes, Work work,
                                           std::function<void(StatusOr<Response>)> done,
                                           Wanted wanted) {
  return submit_job(
      bytes, [this, work = std::move(work), done = std::move(done), wanted = std::move(wanted)] {
        if (stopping_) return done(draining_error());
        if (wanted && !wanted()) return done(absl::CancelledError("the client has left"));
        done(work());
      });
}

template <typename ApiRequest>
StatusOr<std::shared_ptr<Call>> InferenceService::Impl::start(ApiRequest request,
                                                              CallContext context,
                                                              std::shared_ptr<OutputSink> sink) {
  const std::string id = context.request_id;
  const std::string client_id = context.client_request_id;
  auto call = start_call(std::move(request), std::move(context), std::move(sink));
  if (!call.ok()) {
    log(LogLevel::kDebug, "request refused",
        {{"request_id", id},
         {"client_request_id", client_id},
         {"status", absl::StatusCodeToString(call.status().code())},
         {"reason", error_reason(call.status()).value_or("")},
         {"field", error_field(call.status()).value_or("")}});
  }
  return call;
}

template <typename ApiRequest>
StatusOr<std::shared_ptr<Call>> InferenceService::Impl::start_call(
    ApiRequest request, CallContext context, std::shared_ptr<OutputSink> sink) {
  const Counted counted(starting_);
  if (draining_) return draining_error();
  if (clock_->now() >= context.deadline) return deadline_exceeded();
  PELTON_ASSIGN_OR_RETURN(const auto model, models_->find(request.model()));
  const auto bytes = static_cast<int64_t>(request.ByteSizeLong());
  PELTON_ASSIGN_OR_RETURN(ConvertedRequest converted, convert(std::move(request), limits(*model)));

  std::vector<TokenId> ids;
  const bool tokenized = std::holds_alternative<std::vector<TokenId>>(converted.prompt);
  if (tokenized) {
    ids = std::get<std::vector<TokenId>>(std::move(converted.prompt));
  } else {
    PELTON_RETURN_IF_ERROR(admit(*model));
  }
  auto call = std::make_shared<CallImpl>(model, std::move(context), std::move(converted),
                                         std::move(sink), clock_, in_flight_);
  Status status;
  if (tokenized) {
    status = call->submit(std::move(ids), limits(*model));
  } else {
    if (call->deadline() != TimePoint::max()) call->watch_deadline(&deadlines_);
    status = submit_job(bytes, [this, call] { prepare(*call); });
  }
  if (status.ok()) return call;
  call->abandon();
  return status;
}

// On a worker.
void InferenceService::Impl::prepare(CallImpl& call) {
  if (stopping_) return call.end_preparing(FinishReason::kError, draining_error());
  if (!call.preparing()) return;
  if (clock_->now() >= call.deadline()) {
    return call.end_preparing(FinishReason::kAbort, deadline_exceeded());
  }
  auto ids = encode(call.request(), call.model());
  Status status = ids.status();
  if (status.ok()) {
    status = call.submit(*std::move(ids), limits(call.model()));
  }
  if (!status.ok()) call.end_preparing(FinishReason::kError, std::move(status));
}

Status InferenceService::Impl::tokenize(v1::TokenizeRequest request,
                                        std::function<void(StatusOr<v1::TokenizeResponse>)> done,
                                        Wanted wanted) {
  const Counted counted(starting_);
  if (draining_) return draining_error();
  PELTON_ASSIGN_OR_RETURN(const auto model, models_->find(request.model()));
  const ModelLimits& bounds = limits(*model);
  PELTON_RETURN_IF_ERROR(validate(request, bounds));
  const auto bytes = static_cast<int64_t>(request.ByteSizeLong());
  auto work = [model, request = std::move(request), &bounds]() -> StatusOr<v1::TokenizeResponse> {
    const bool add_special = !request.has_add_special_tokens() || request.add_special_tokens();
    PELTON_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                            request.has_chat()
                                ? encode_chat(request.chat(), "chat", *model)
                                : model->tokenizer()->encode(request.text(), add_special));
    v1::TokenizeResponse response;
    response.mutable_token_ids()->Add(ids.begin(), ids.end());
    response.set_max_model_len(bounds.max_model_len);
    if (request.return_token_strings()) {
      for (const TokenId id : ids) {
        response.add_token_strings(std::string(model->tokenizer()->token_text(id)));
      }
    }
    return response;
  };
  return submit_work(bytes, std::move(work), std::move(done), std::move(wanted));
}

Status InferenceService::Impl::detokenize(
    v1::DetokenizeRequest request, std::function<void(StatusOr<v1::DetokenizeResponse>)> done,
    Wanted wanted) {
  const Counted counted(starting_);
  if (draining_) return draining_error();
  PELTON_ASSIGN_OR_RETURN(const auto model, models_->find(request.model()));
  PELTON_RETURN_IF_ERROR(validate(request, limits(*model)));
  const auto bytes = static_cast<int64_t>(request.ByteSizeLong());
  auto work = [model, request = std::move(request)] {
    const auto& ids = request.token_ids();
    v1::DetokenizeResponse response;
    response.set_text(model->tokenizer()->decode({ids.data(), static_cast<size_t>(ids.size())},
                                                 request.skip_special_tokens()));
    return response;
  };
  return submit_work(bytes, std::move(work), std::move(done), std::move(wanted));
}

bool InferenceService::Impl::ready() const {
  if (draining_ || models_->all().empty()) return false;
  return std::all_of(models_->all().begin(), models_->all().end(), [this](const auto& model) {
    const Duration allowed =
        std::min(options_.stalled_after,
                 std::max(options_.stalled_at_least, model->engine().step_allowance()));
    return model->engine().health().ok() && clock_->now() - model->engine().heartbeat() < allowed;
  });
}

void InferenceService::Impl::end_all() {
  draining_ = true;
  stopping_ = true;  // what is tokenised ends once its turn comes
  for (const auto& model : models_->all()) model->engine().end_all(draining_error());
}

bool InferenceService::Impl::idle() const {
  if (starting_ > 0 || *in_flight_ > 0 || pool_.jobs() > 0) return false;
  return std::all_of(models_->all().begin(), models_->all().end(),
                     [](const auto& model) { return model->engine().idle(); });
}

InferenceService::InferenceService(ModelHost* models, const Clock* clock,
                                   InferenceServiceOptions options)
    : impl_(std::make_unique<Impl>(models, clock, options)) {}
InferenceService::~InferenceService() = default;

StatusOr<std::shared_ptr<Call>> InferenceService::start(v1::CompleteRequest request,
                                                        CallContext context,
                                                        std::shared_ptr<OutputSink> sink) {
  return impl_->start(std::move(request), std::move(context), std::move(sink));
}

StatusOr<std::shared_ptr<Call>> InferenceService::start(v1::ChatRequest request,
                                                        CallContext context,
                                                        std::shared_ptr<OutputSink> sink) {
  return impl_->start(std::move(request), std::move(context), std::move(sink));
}

Status InferenceService::tokenize(v1::TokenizeRequest request,
                                  std::function<void(StatusOr<v1::TokenizeResponse>)> done,
                                  Wanted wanted) {
  return impl_->tokenize(std::move(request), std::move(done), std::move(wanted));
}

Status InferenceService::detokenize(v1::DetokenizeRequest request,
                                    std::function<void(StatusOr<v1::DetokenizeResponse>)> done,
                                    Wanted wanted) {
  return impl_->detokenize(std::move(request), std::move(done), std::move(wanted));
}

v1::ListModelsResponse InferenceService::list_models() const {
  v1::ListModelsResponse response;
  for (const auto& model : impl_->models().all()) *response.add_models() = to_model(*model);
  return response;
}

StatusOr<v1::Model> InferenceService::get_model(std::string_view name) const {
  if (name.empty()) return invalid_field("name", "must not be empty");
  PELTON_ASSIGN_OR_RETURN(const auto model, impl_->models().find(name));
  return to_model(*model);
}

Status InferenceService::embed(const v1::EmbedRequest& request) const {
  return impl_->refuse_unbuilt(request, "embeddings are not built yet");
}
Status InferenceService::rerank(const v1::RerankRequest& request) const {
  return impl_->refuse_unbuilt(request, "reranking is not built yet");
}
Status InferenceService::classify(const v1::ClassifyRequest& request) const {
  return impl_->refuse_unbuilt(request, "classification is not built yet");
}

bool InferenceService::ready() const {
  return impl_->ready();
}
void InferenceService::drain() {
  impl_->drain();
}
void InferenceService::end_all() {
  impl_->end_all();
}
bool InferenceService::idle() const {
  return impl_->idle();
}

}  // namespace pelton
