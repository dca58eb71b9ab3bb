#include "server/call.h"

#include <chrono>
#include <utility>

#include "core/log.h"
#include "core/metrics.h"

namespace pelton {
namespace {

int64_t unix_now_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Status deadline_exceeded() {
  Status status = absl::DeadlineExceededError("the request's deadline has passed");
  set_error_reason(status, "DEADLINE_EXCEEDED");
  return status;
}

CallImpl::CallImpl(std::shared_ptr<ServedModel> model, CallContext context,
                   ConvertedRequest request, std::shared_ptr<OutputSink> sink, const Clock* clock,
                   std::shared_ptr<std::atomic<int64_t>> in_flight)
    : model_(std::move(model)),
      id_(model_->engine().mint_request_id()),
      context_(std::move(context)),
      request_(std::move(request)),
      sink_(std::move(sink)),
      clock_(clock),
      in_flight_(std::move(in_flight)),
      arrival_(clock->now()),
      mapper_(context_.request_id, model_->facts(), model_->tokenizer(), unix_now_s(),
              request_.return_token_ids) {
  in_flight_->fetch_add(1);
}

CallImpl::~CallImpl() {
  if (!end_seen_ && phase_ == Phase::kSubmitted) {  // the client left before the end
    RequestOutput lost;
    lost.finish_reason = FinishReason::kAbort;
    observe(lost);
  }
  in_flight_->fetch_sub(1);
}

// Whether it was ever the engine's. What was refused before is no request of the metrics.
bool CallImpl::admitted() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kSubmitted;
}

bool CallImpl::preparing() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kPreparing;
}

Request CallImpl::engine_request(std::vector<TokenId> prompt) const {
  Request out;
  out.id = id_;
  out.prompt.push_back({std::move(prompt)});
  out.params = request_.params;
  out.priority = request_.priority;
  out.tenant = context_.tenant;
  out.deadline = context_.deadline;
  out.arrival = arrival_;
  out.use_prefix_cache = request_.use_prefix_cache;
  return out;
}

void CallImpl::watch_deadline(DeadlineWatch* watch) {
  const std::weak_ptr<CallImpl> weak = weak_from_this();
  const std::lock_guard lock(mutex_);
  watch_ = watch;
  ticket_ = watch->watch(context_.deadline, [weak] {
    if (const auto call = weak.lock()) {
      call->end_preparing(FinishReason::kAbort, deadline_exceeded());
    }
  });
}

Status CallImpl::submit(std::vector<TokenId> prompt, const ModelLimits& limits) {
  // Held over the engine's submit, so that a cancel comes before it or finds the request there.
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kPreparing) return absl::OkStatus();
  PELTON_RETURN_IF_ERROR(fit_to_context(request_, prompt.size(), limits));
  if (mapper_.wants_prompt()) mapper_.set_prompt(prompt);
  PELTON_RETURN_IF_ERROR(model_->engine().submit(engine_request(std::move(prompt)), sink_));
  leave_preparing(Phase::kSubmitted);
  request_.prompt = {};  // a conversation is not kept beside its tokens
  return absl::OkStatus();
}

// Under the lock.
bool CallImpl::leave_preparing(Phase next) {
  if (phase_ != Phase::kPreparing) return false;
  phase_ = next;
  if (watch_ != nullptr) watch_->forget(ticket_);
  return true;
}

void CallImpl::abandon() {
  const std::lock_guard lock(mutex_);
  leave_preparing(Phase::kEnded);
}

void CallImpl::end_preparing(FinishReason reason, Status status) {
  {
    const std::lock_guard lock(mutex_);
    if (!leave_preparing(Phase::kEnded)) return;
  }
  RequestOutput output;
  output.id = id_;
  output.finish_reason = reason;
  output.status = std::move(status);
  std::vector<RequestOutput> outputs;
  outputs.push_back(std::move(output));
  sink_->deliver(std::move(outputs));
}

void CallImpl::cancel() {
  bool submitted = false;
  {
    const std::lock_guard lock(mutex_);
    submitted = phase_ == Phase::kSubmitted;
  }
  if (submitted) {
    model_->engine().abort(id_);
  } else {
    end_preparing(FinishReason::kAbort, absl::OkStatus());
  }
}

template <typename Message>
void CallImpl::map(const RequestOutput& output, Message* message) {
  observe(output);
  mapper_.add(output, message);
}

void CallImpl::fill(const RequestOutput& output, v1::CompleteStreamResponse* message) {
  map(output, message);
}
void CallImpl::fill(const RequestOutput& output, v1::ChatStreamResponse* message) {
  map(output, message);
}
void CallImpl::accumulate(const RequestOutput& output, v1::CompleteResponse* message) {
  map(output, message);
}
void CallImpl::accumulate(const RequestOutput& output, v1::ChatResponse* message) {
  map(output, message);
}

void CallImpl::note_end(const RequestOutput& output) {
  if (output.finished() && !end_seen_) observe(output);
}

void CallImpl::log_end(const RequestOutput& output) const {
  const bool ours = output.status.code() == absl::StatusCode::kInternal ||
                    output.status.code() == absl::StatusCode::kUnavailable;
  log(ours ? LogLevel::kWarning : LogLevel::kDebug, "request ended",
      {{"request_id", context_.request_id},
       {"client_request_id", context_.client_request_id},
       {"model", model_->facts().name},
       {"finish_reason", finish_reason_name(output.finish_reason)},
       {"status", absl::StatusCodeToString(output.status.code())},
       {"prompt_tokens", output.usage.prompt_tokens},
       {"completion_tokens", output.usage.completion_tokens},
       {"seconds", to_seconds(clock_->now() - arrival_)}});
}

void CallImpl::observe(const RequestOutput& output) {
  ModelMetrics* metrics = model_->metrics();
  end_seen_ = end_seen_ || output.finished();
  if (output.finished()) log_end(output);
  if (metrics == nullptr) return;
  const TimePoint now = clock_->now();
  if (const int tokens = static_cast<int>(output.tokens.size()); tokens > 0) {
    if (!first_token_seen_) {
      metrics->observe_time_to_first_token(to_seconds(now - arrival_));
    } else {
      metrics->observe_inter_token_latency(to_seconds(now - last_output_) / tokens, tokens);
    }
    first_token_seen_ = true;
    last_output_ = now;
  }
  if (output.finished() && admitted()) {
    metrics->observe_finished(to_seconds(now - arrival_), output.timing, output.finish_reason);
  }
}

}  // namespace pelton
