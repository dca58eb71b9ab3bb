// How much a step may compute so that those who stream wait no longer than about a tenth of a
// second, measured on the model itself at start. Call it before the engine drives the runner.
#pragma once

#include "core/clock.h"
#include "core/status.h"
#include "model/model_runner.h"

namespace pelton {

inline constexpr double kStepSeconds = 0.1;  // of a full step, at most
inline constexpr double kStepMargin = 0.9;   // what is measured alone is seldom reached under load

struct StepBudget {
  // Work of a step, in tokens' worth of matrix products. 0: not measured.
  int work = 0;
  // Tokens of context whose attention costs as much as one token's products; 0: nothing noticeable.
  int context_per_token = 0;
  double tokens_per_second = 0;  // of a prefill, as measured
};

struct StepBudgetLimits {
  int max_tokens = 0;  // of one step
  int max_model_len = 0;
};

// Runs a few prefills of up to 32 tokens, at the start of a context and deep in one. The KV blocks
// that it writes hold garbage afterwards; nobody may own any yet.
StatusOr<StepBudget> measure_step_budget(ModelRunner& runner, const StepBudgetLimits& limits,
                                         const Clock& clock);

}  // namespace pelton
