// From the results of a load run to figures: percentiles, rates, a table and JSON. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "client/bench_load.h"

namespace pelton {

struct Percentiles {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};
// By the nearest-rank method; all zero for no values.
Percentiles percentiles(std::vector<double> values);

struct BenchSummary {
  int concurrency = 0;
  int completed = 0;
  int failed = 0;
  std::string first_error;
  double wall_s = 0;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  Percentiles ttft_s, itl_s, tpot_s, e2el_s;

  double output_tokens_per_s() const { return wall_s > 0 ? completion_tokens / wall_s : 0; }
  double total_tokens_per_s() const {
    return wall_s > 0 ? (prompt_tokens + completion_tokens) / wall_s : 0;
  }
};
BenchSummary summarize(const LoadRun& run, int concurrency);

// `ceilings_json`: what `pelton-bench --ceilings --json` printed, or empty.
std::string bench_table(const std::vector<BenchSummary>& summaries);
std::string bench_json(const std::vector<BenchSummary>& summaries, const std::string& target,
                       const std::string& ceilings_json);

}  // namespace pelton
