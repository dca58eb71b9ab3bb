// From the options to one served model: backend, weights, tokenizer, chat template, engine.
// Blocking; called at start.
#pragma once

#include <memory>
#include <vector>

#include "core/clock.h"
#include "core/metrics.h"
#include "core/status.h"
#include "model/step_budget.h"
#include "server/model_host.h"
#include "server/model_host_device.h"
#include "server/options.h"

namespace pelton {

// What was decided while loading, for the start-up log.
struct LoadReport {
  double load_seconds = 0;
  int64_t kv_cache_bytes = 0;
  int64_t kv_cache_tokens = 0;
  StepBudget step_budget;  // work 0: --max-num-batched-tokens said it
  bool shortened = false;  // max_model_len is less than the model's own: the KV cache is small
  std::vector<std::string> warnings;
};

struct LoadedServedModel {
  std::shared_ptr<ServedModel> model;  // its engine runs
  LoadReport report;
};

// `clock` and `metrics` outlive the model.
StatusOr<LoadedServedModel> load_served_model(const Options& options, SharedDevices& shared,
                                              const Clock* clock, Metrics* metrics);

}  // namespace pelton
