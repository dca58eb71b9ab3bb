#include "client/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace pelton {
namespace {

nlohmann::ordered_json milliseconds(const Percentiles& values) {
  return {{"mean", values.mean * 1e3},
          {"p50", values.p50 * 1e3},
          {"p90", values.p90 * 1e3},
          {"p99", values.p99 * 1e3},
          {"max", values.max * 1e3}};
}

std::string cell(const Percentiles& values) {
  return fmt::format("{:.1f} / {:.1f} / {:.1f}", values.p50 * 1e3, values.p90 * 1e3,
                     values.p99 * 1e3);
}

}  // namespace

Percentiles percentiles(std::vector<double> values) {
  Percentiles out;
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::max<size_t>(rank, 1) - 1];
  };
  out.mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  out.p50 = at(0.50);
  out.p90 = at(0.90);
  out.p99 = at(0.99);
  out.max = values.back();
  return out;
}

BenchSummary summarize(const LoadRun& run, int concurrency) {
  BenchSummary summary;
  summary.concurrency = concurrency;
  summary.wall_s = run.wall_s;
  std::vector<double> ttft, itl, tpot, e2el;
  for (const BenchResult& result : run.results) {
    if (!result.status.ok()) {
      if (summary.failed++ == 0) summary.first_error = std::string(result.status.message());
      continue;
    }
    ++summary.completed;
    summary.prompt_tokens += result.prompt_tokens;
    summary.completion_tokens += result.completion_tokens;
    ttft.push_back(result.ttft_s);
    e2el.push_back(result.e2el_s);
    itl.insert(itl.end(), result.itl_s.begin(), result.itl_s.end());
    if (result.completion_tokens > 1) {
      tpot.push_back((result.e2el_s - result.ttft_s) / (result.completion_tokens - 1));
    }
  }
  summary.ttft_s = percentiles(std::move(ttft));
  summary.itl_s = percentiles(std::move(itl));
  summary.tpot_s = percentiles(std::move(tpot));
  summary.e2el_s = percentiles(std::move(e2el));
  return summary;
}

std::string bench_table(const std::vector<BenchSummary>& summaries) {
  std::string out =
      "| concurrency | requests | failed | out tok/s | total tok/s | TTFT ms p50/p90/p99 | ITL ms "
      "p50/p90/p99 | TPOT ms p50/p90/p99 | E2EL ms p50/p90/p99 |\n|--:|--:|--:|--:|--:|--:|--:|--:"
      "|--:|\n";
  for (const BenchSummary& s : summaries) {
    out += fmt::format("| {} | {} | {} | {:.1f} | {:.1f} | {} | {} | {} | {} |\n", s.concurrency,
                       s.completed, s.failed, s.output_tokens_per_s(), s.total_tokens_per_s(),
                       cell(s.ttft_s), cell(s.itl_s), cell(s.tpot_s), cell(s.e2el_s));
  }
  return out;
}

std::string bench_json(const std::vector<BenchSummary>& summaries, const std::string& target,
                       const std::string& ceilings_json) {
  nlohmann::ordered_json out = {{"target", target}, {"runs", nlohmann::ordered_json::array()}};
  for (const BenchSummary& s : summaries) {
    out["runs"].push_back({{"concurrency", s.concurrency},
                           {"completed", s.completed},
                           {"failed", s.failed},
                           {"first_error", s.first_error},
                           {"wall_s", s.wall_s},
                           {"prompt_tokens", s.prompt_tokens},
                           {"completion_tokens", s.completion_tokens},
                           {"output_tokens_per_s", s.output_tokens_per_s()},
                           {"total_tokens_per_s", s.total_tokens_per_s()},
                           {"ttft_ms", milliseconds(s.ttft_s)},
                           {"itl_ms", milliseconds(s.itl_s)},
                           {"tpot_ms", milliseconds(s.tpot_s)},
                           {"e2el_ms", milliseconds(s.e2el_s)}});
  }
  const auto ceilings = nlohmann::ordered_json::parse(ceilings_json, nullptr, false);
  if (!ceilings.is_discarded()) out["ceilings"] = ceilings;
  return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace pelton
