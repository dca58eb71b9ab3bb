#include "model/step_budget.h"

#include <algorithm>
#include <vector>

namespace pelton {
namespace {

constexpr int kFirstProbe = 16;  // tokens; also warms up
constexpr int kProbe = 32;
constexpr double kMaxProbeSeconds = 0.25;  // a slow model is judged by the first probe
constexpr int kDeepContext = 2048;
constexpr int kRuns = 2;
constexpr int kMaxWork = 1 << 16;

// Tokens [first, first + count) of one sequence that lies in blocks 0, 1, ...
Batch probe_batch(const ModelRunner& runner, int first, int count) {
  Batch batch;
  for (int i = 0; i < count; ++i) {
    batch.tokens.push_back(i * 7 % runner.vocab_size());
    batch.positions.push_back(first + i);
  }
  batch.query_start_loc = {0, count};
  batch.seq_lens = {first + count};
  batch.logit_rows = {count - 1};
  GroupBatch group;
  for (int i = first; i < first + count; ++i) group.slot_mapping.push_back(i);
  const int block_size = runner.kv_geometry().block_size;
  group.max_blocks_per_seq = (first + count + block_size - 1) / block_size;
  for (int b = 0; b < group.max_blocks_per_seq; ++b) group.block_tables.push_back(b);
  batch.kv.assign(runner.kv_geometry().groups.size(), group);
  return batch;
}

StatusOr<double> seconds_of(ModelRunner& runner, int first, int count, const Clock& clock) {
  const Batch batch = probe_batch(runner, first, count);
  SampleRow row;
  row.temperature = 0;
  double best = 1e18;
  for (int run = 0; run < kRuns; ++run) {
    const TimePoint start = clock.now();
    PELTON_RETURN_IF_ERROR(runner.forward(batch));
    PELTON_RETURN_IF_ERROR(runner.sample(std::span(&row, 1)));
    PELTON_RETURN_IF_ERROR(runner.collect().status());
    best = std::min(best, to_seconds(clock.now() - start));
  }
  return best;
}

}  // namespace

StatusOr<StepBudget> measure_step_budget(ModelRunner& runner, const StepBudgetLimits& limits,
                                         const Clock& clock) {
  int context = std::min(limits.max_model_len, kDeepContext);
  for (const int blocks : runner.num_blocks()) {
    context = std::min(context, blocks * runner.kv_geometry().block_size);
  }
  int count = std::min({kFirstProbe, limits.max_tokens, context});
  if (count < 1) return StepBudget();
  PELTON_ASSIGN_OR_RETURN(double shallow, seconds_of(runner, 0, count, clock));
  if (shallow * kProbe / count < kMaxProbeSeconds) {
    count = std::min({kProbe, limits.max_tokens, context});
    PELTON_ASSIGN_OR_RETURN(shallow, seconds_of(runner, 0, count, clock));
  }
  StepBudget budget;
  const double per_token = std::max(shallow / count, 1e-9);
  budget.tokens_per_second = 1 / per_token;
  budget.work =
      static_cast<int>(std::clamp(kStepMargin * kStepSeconds / per_token, 1.0, 1.0 * kMaxWork));
  if (context < 4 * count) return budget;
  PELTON_ASSIGN_OR_RETURN(const double deep, seconds_of(runner, context - count, count, clock));
  const double per_context_token = (deep - shallow) / count / (context - count);
  if (per_context_token > 0) {
    budget.context_per_token =
        static_cast<int>(std::clamp(per_token / per_context_token, 1.0, 1e9));
  }
  return budget;
}

}  // namespace pelton
