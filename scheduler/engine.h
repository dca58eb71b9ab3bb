// The step loop of one model: bounded queue in, one batch of outputs a step out. submit, abort,
// load and heartbeat are thread-safe and never wait for a step; all sequence, block and scheduler
// state belongs to the engine thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/clock.h"
#include "core/load.h"
#include "core/request.h"
#include "core/status.h"
#include "model/model_runner.h"
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
  int max_waiting_requests = 1024;    // beyond: RESOURCE_EXHAUSTED
  bool enable_prefix_caching = true;
  std::vector<TokenId> eos_token_ids;  // end an answer unless ignore_eos
  bool check_integrity = false;        // after each step (tests)
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
  // One step: schedule, forward, sample, collect, update, deliver. Returns false when idle.
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

  Load load() const;
  // Time of the last completed step, or now when idle: liveness is judged by it.
  TimePoint heartbeat() const;
  // Not OK once the device failed: everything in flight ended UNAVAILABLE, nothing is accepted.
  Status health() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pelton
