// What Prometheus reads at /metrics, under vLLM's names with the prefix "pelton:". Label sets are
// closed: the model's name and the finish reason, nothing a client sends. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/load.h"
#include "core/request.h"

namespace pelton {

// Totals since start that the engine counts itself; copied into the counters at each scrape.
struct EngineTotals {
  int64_t prompt_tokens = 0;
  int64_t generation_tokens = 0;
  int64_t preemptions = 0;
  int64_t prefix_cache_queries = 0;  // prompt tokens looked up
  int64_t prefix_cache_hits = 0;     // of these, found
};

// The metrics of one served model.
class ModelMetrics {
 public:
  virtual ~ModelMetrics() = default;
  virtual void observe_time_to_first_token(double seconds) = 0;
  virtual void observe_inter_token_latency(double seconds, int tokens) = 0;  // `tokens` equal gaps
  // The last output of a request: latency since arrival, phases, finish reason. Phases that it
  // never came to are zero, and are not counted.
  virtual void observe_finished(double e2e_seconds, const Timing& timing, FinishReason reason) = 0;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();

  // `read` is called at each scrape and gives the model's load and totals; it must not block.
  ModelMetrics& add_model(const std::string& served_name,
                          std::function<std::pair<Load, EngineTotals>()> read);

  // The text exposition format, version 0.0.4.
  std::string render();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pelton
