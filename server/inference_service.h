// The one core that both front ends call: validate and bound, render and tokenise on a worker pool,
// submit, cancel, map results. Thread-safe; no call waits for the engine or for a tokenizer. It
// owns the worker pool; the model host, complete when this is made, outlives it, and it every Call.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/request.h"
#include "core/status.h"
#include "pelton/v1/inference.pb.h"
#include "pelton/v1/models.pb.h"
#include "scheduler/engine.h"

namespace pelton {

class ModelHost;

struct CallContext {
  std::string request_id;  // ours, unguessable and unique: "cmpl-..." / "chatcmpl-..."
  std::string tenant;      // from the authenticated key; salts the prefix cache
  TimePoint deadline = TimePoint::max();
  // The client's name for it (x-request-id), for the log; clean and short. Empty: none.
  std::string client_request_id = {};
};

// One running request. The front end keeps it until its last output came, and maps each output with
// the fill functions; those are called by one thread at a time, in order.
class Call {
 public:
  virtual ~Call() = default;
  virtual RequestId id() const = 0;  // what RequestOutput::id will be
  // Ends it wherever it is (tokenising, queued, running). Its last output still comes.
  virtual void cancel() = 0;

  // Writes the delta into an empty message. The first message of a call carries the prompt's ids
  // and logprobs where asked for, and a chat's first one the role.
  virtual void fill(const RequestOutput& output, v1::CompleteStreamResponse* message) = 0;
  virtual void fill(const RequestOutput& output, v1::ChatStreamResponse* message) = 0;
  // Adds the delta to the unary answer.
  virtual void accumulate(const RequestOutput& output, v1::CompleteResponse* message) = 0;
  virtual void accumulate(const RequestOutput& output, v1::ChatResponse* message) = 0;
  // Counts and logs a last output that no message is made of (an error, or nobody reads on).
  virtual void note_end(const RequestOutput& output) = 0;
};

// Merges a later output of the same request into an earlier one that could not be written yet, so
// that a slow reader costs one message and not a queue.
void merge_output(RequestOutput& into, RequestOutput&& later);

struct InferenceServiceOptions {
  int tokenizer_threads = 1;
  // Requests that are being tokenised or rendered; beyond: RESOURCE_EXHAUSTED before any work.
  int max_tokenizing_requests = 256;
  int64_t max_tokenizing_bytes = int64_t{64} << 20;  // of their messages
  // An engine that has work and completes no step is not ready once the step takes longer than it
  // may (Engine::step_allowance), but not before and not after these.
  Duration stalled_at_least = std::chrono::seconds(2);
  Duration stalled_after = std::chrono::seconds(30);
};

class InferenceService {
 public:
  InferenceService(ModelHost* models, const Clock* clock, InferenceServiceOptions options);
  ~InferenceService();

  // An error comes at once and then no output follows. After OK exactly one output of the call has
  // a finish reason, whatever happens: what fails later (tokenising, the template, the engine's
  // bounds) comes as an output with kError and the status.
  // `sink` gets the outputs of many calls, a step's in one go; one sink a front-end thread. Its
  // deliver() is called by the engine's thread, a worker, or whoever cancels, and possibly before
  // start() has returned: it must only queue them for the thread that calls start().
  StatusOr<std::shared_ptr<Call>> start(v1::CompleteRequest request, CallContext context,
                                        std::shared_ptr<OutputSink> sink);
  StatusOr<std::shared_ptr<Call>> start(v1::ChatRequest request, CallContext context,
                                        std::shared_ptr<OutputSink> sink);

  // Run on the worker pool; `done` is called there, once, unless an error is returned at once.
  // `wanted`, where given, is asked there before the work begins: CANCELLED where it says no.
  using Wanted = std::function<bool()>;
  Status tokenize(v1::TokenizeRequest request,
                  std::function<void(StatusOr<v1::TokenizeResponse>)> done, Wanted wanted = {});
  Status detokenize(v1::DetokenizeRequest request,
                    std::function<void(StatusOr<v1::DetokenizeResponse>)> done, Wanted wanted = {});

  v1::ListModelsResponse list_models() const;
  StatusOr<v1::Model> get_model(std::string_view name) const;

  // Not built yet: UNIMPLEMENTED, after the same validation that the built ones get.
  Status embed(const v1::EmbedRequest& request) const;
  Status rerank(const v1::RerankRequest& request) const;
  Status classify(const v1::ClassifyRequest& request) const;

  bool ready() const;  // a model is loaded, its device healthy, and no drain has begun
  void drain();        // refuses what is new with UNAVAILABLE (DRAINING)
  bool idle() const;   // nothing in flight
  // Drains, and ends what is in flight, each call with the error that a drain refuses with.
  void end_all();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pelton
