// One running request of the service core: its phase, from tokenising to its last output. See Call
// (inference_service.h) for what front ends see. cancel, expire and submit are thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "core/clock.h"
#include "core/request.h"
#include "server/convert.h"
#include "server/deadline_watch.h"
#include "server/inference_service.h"
#include "server/model_host.h"
#include "server/output_mapping.h"

namespace pelton {

class CallImpl final : public Call, public std::enable_shared_from_this<CallImpl> {
 public:
  // Counts itself in `in_flight` for as long as it lives.
  CallImpl(std::shared_ptr<ServedModel> model, CallContext context, ConvertedRequest request,
           std::shared_ptr<OutputSink> sink, const Clock* clock,
           std::shared_ptr<std::atomic<int64_t>> in_flight);
  ~CallImpl() override;

  // --- the service's side
  ServedModel& model() { return *model_; }
  const ConvertedRequest& request() const { return request_; }
  TimePoint deadline() const { return context_.deadline; }
  bool preparing() const;
  // From now on the deadline ends it, as long as it is being prepared. `watch` outlives that phase.
  void watch_deadline(DeadlineWatch* watch);
  // Hands the prompt to the engine, unless the call ended meanwhile (then OK). After an error the
  // call is still being prepared: the caller ends it.
  Status submit(std::vector<TokenId> prompt, const ModelLimits& limits);
  // Ends the call if it is still being prepared, with one output.
  void end_preparing(FinishReason reason, Status status);
  // The same without an output: start() reports the error itself.
  void abandon();

  // --- the front end's side
  RequestId id() const override { return id_; }
  void cancel() override;
  void fill(const RequestOutput& output, v1::CompleteStreamResponse* message) override;
  void fill(const RequestOutput& output, v1::ChatStreamResponse* message) override;
  void accumulate(const RequestOutput& output, v1::CompleteResponse* message) override;
  void accumulate(const RequestOutput& output, v1::ChatResponse* message) override;
  void note_end(const RequestOutput& output) override;

 private:
  enum class Phase : uint8_t { kPreparing, kSubmitted, kEnded };

  bool admitted() const;
  bool leave_preparing(Phase next);  // false: it had been left before
  template <typename Message>
  void map(const RequestOutput& output, Message* message);
  void observe(const RequestOutput& output);  // metrics
  void log_end(const RequestOutput& output) const;
  Request engine_request(std::vector<TokenId> prompt) const;

  const std::shared_ptr<ServedModel> model_;
  const RequestId id_;
  const CallContext context_;
  ConvertedRequest request_;  // the preparing thread's, until the phase changes
  const std::shared_ptr<OutputSink> sink_;
  const Clock* const clock_;
  const std::shared_ptr<std::atomic<int64_t>> in_flight_;
  const TimePoint arrival_;

  mutable std::mutex mutex_;
  Phase phase_ = Phase::kPreparing;
  DeadlineWatch* watch_ = nullptr;
  DeadlineWatch::Ticket ticket_;

  // The mapping thread's.
  OutputMapper mapper_;
  TimePoint last_output_{};
  bool first_token_seen_ = false;
  bool end_seen_ = false;
};

// DEADLINE_EXCEEDED with its reason.
Status deadline_exceeded();

}  // namespace pelton
