#include "core/metrics.h"

#include <chrono>

#include <fmt/format.h>

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("metrics follow the engine's totals and observations") {
  Metrics metrics;
  Load load;
  EngineTotals totals;
  ModelMetrics& model = metrics.add_model("m", [&] { return std::make_pair(load, totals); });
  load.running_requests = 3;
  load.total_blocks = 10;
  load.used_blocks = 5;
  totals.generation_tokens = 7;
  model.observe_time_to_first_token(0.03);
  model.observe_inter_token_latency(0.01, 4);
  model.observe_finished(1.2, Timing{}, FinishReason::kLength);

  std::string text = metrics.render();
  const auto has = [&](const char* line) { return text.find(line) != std::string::npos; };
  CHECK(has("pelton:num_requests_running{model_name=\"m\"} 3"));
  CHECK(has("pelton:kv_cache_usage_perc{model_name=\"m\"} 0.5"));
  CHECK(has("pelton:generation_tokens_total{model_name=\"m\"} 7"));
  CHECK(has("pelton:inter_token_latency_seconds_count{model_name=\"m\"} 4"));
  CHECK(has("pelton:request_success_total{finished_reason=\"length\",model_name=\"m\"} 1"));
  CHECK(has("pelton:request_success_total{finished_reason=\"stop\",model_name=\"m\"} 0"));

  // It was given up: of its phases nothing is known.
  CHECK(has("pelton:e2e_request_latency_seconds_count{model_name=\"m\"} 1"));
  for (const char* phase : {"queue", "prefill", "decode"}) {
    CAPTURE(phase);
    CHECK(has(
        fmt::format("pelton:request_{}_time_seconds_count{{model_name=\"m\"}} 0", phase).c_str()));
  }
  model.observe_finished(1.2, {.queued = std::chrono::seconds(1)}, FinishReason::kAbort);

  totals.generation_tokens = 9;
  text = metrics.render();
  CHECK(has("pelton:generation_tokens_total{model_name=\"m\"} 9"));
  CHECK(has("pelton:request_queue_time_seconds_count{model_name=\"m\"} 1"));
  CHECK(has("pelton:request_prefill_time_seconds_count{model_name=\"m\"} 0"));
}

}  // namespace pelton
