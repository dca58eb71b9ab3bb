// The step loop of one model: bounded queue in, one batch of outputs a step out. submit, abort,
// load and heartbeat are thread-safe and never wait for a step; all sequence, block and scheduler
// state belongs to the engine thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/clock.h"
#include "core/load.h"
#include "core/request.h"
#include "core/status.h"
#include "model/model_runner.h"
#include "scheduler/kv_events.h"
#include "text/text_stream.h"

namespace pelton {

// Takes all outputs that one step made for the requests submitted with it: one call a step, on the
// engine thread. It must not block; it hands over and returns.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  virtual void deliver(std::vector<RequestOutput> outputs) = 0;
};

struct EngineOptions {
  int max_model_len = 2048;           // tokens of prompt and answer together
  int max_num_seqs = 64;              // sequences that run in one step
  int max_num_batched_tokens = 2048;  // token budget of one step
  int step_work = 0;                  // as in SchedulerOptions (scheduler.h)
  int context_per_token = 0;
  // What a step of step_work should take. Where steps turn out faster (the machine was busy when
  // the model was measured) the work grows. 0: it stays.
  double step_seconds = 0;
  std::function<void()> on_start;   // called first on the engine's thread; may be empty
  int max_waiting_requests = 1024;  // beyond: RESOURCE_EXHAUSTED
  // Prompt logprobs in one step over all sequences: each is a row of logits the runner must hold,
  // so a step has at most this many and max_num_seqs.
  int max_prompt_logprob_rows = 256;
  bool enable_prefix_caching = true;
  // Whether a step is enqueued before the one before it is collected (model_runner.h); the results
  // are the same. Nothing: where the runner is asynchronous.
  std::optional<bool> async_scheduling;
  std::vector<TokenId> eos_token_ids;  // end an answer unless ignore_eos
  bool check_integrity = false;        // after each step (tests)
};

// Counts since the engine was made, for metrics. A plain value; per-request times travel in
// RequestOutput::timing.
struct EngineStats {
  int64_t steps = 0;
  int64_t prompt_tokens = 0;      // of requests whose prompt has been computed
  int64_t generation_tokens = 0;  // drawn for requests, billed or not
  int64_t preemptions = 0;
  int64_t prefix_cache_queries = 0;   // tokens looked up, once a request, at its admission
  int64_t prefix_cache_hits = 0;      // of these, found
  std::array<int64_t, 5> finished{};  // requests by FinishReason
};

class Engine {
 public:
  // `text` may be null: ids only. Both pointers outlive the engine.
  Engine(EngineOptions options, std::unique_ptr<ModelRunner> runner, const TextStreamFactory* text,
         const Clock* clock);
  ~Engine();  // stops; what is in flight ends with kAbort
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Starts the engine thread. Without it, the caller drives step() itself (tests, pelton-bench).
  void start();
  // One step: schedule, forward, sample, collect, update, deliver; with overlap schedule, forward,
  // then collect and update of the step before, sample, deliver. Returns false when idle.
  bool step();

  RequestId mint_request_id();
  // After OK exactly one output of the request carries a finish reason, whatever happens. Errors
  // (bounds, full queue, draining, dead device) come at once and then no output follows.
  Status submit(Request request, std::shared_ptr<OutputSink> sink);
  // Ends the request with kAbort by the next step; unknown ids are ignored.
  void abort(RequestId id);

  // Refuses new requests with UNAVAILABLE; `idle()` tells when the last one has ended.
  void drain();
  bool idle() const;
  // Drains, and ends what is in flight with kError and `status` by the next step.
  void end_all(Status status);

  Load load() const;
  EngineStats stats() const;  // as of the last step
  // What changed in the prefix cache from there on (kv_events.h). Thread-safe.
  KvEventBatch read_kv_events(KvEventPosition at, size_t max = 1024) const;
  // The longest prompt and answer together: max_model_len, or less where the KV cache is smaller.
  int max_sequence_tokens() const;
  // Time of the last completed step, or now when idle: liveness is judged by it.
  TimePoint heartbeat() const;
  // How long the step at hand may take before it counts as stuck: three times the longest so far,
  // more where it is larger than they were; Duration::max() before the first.
  Duration step_allowance() const;
  // Not OK once the device failed: everything in flight ended UNAVAILABLE, nothing is accepted.
  Status health() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pelton
