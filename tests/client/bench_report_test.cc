#include "client/bench_report.h"

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("percentiles are the nearest ranks") {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Percentiles p = percentiles(values);
  CHECK(p.p50 == 50);
  CHECK(p.p90 == 90);
  CHECK(p.p99 == 99);
  CHECK(p.max == 100);
  CHECK(p.mean == Approx(50.5));
  CHECK(percentiles({7}).p99 == 7);
  CHECK(percentiles({}).p50 == 0);
}

TEST_CASE("failed requests count as failed and in no figure") {
  LoadRun run;
  run.wall_s = 2;
  BenchResult good;
  good.ttft_s = 0.5;
  good.e2el_s = 1.5;
  good.prompt_tokens = 10;
  good.completion_tokens = 5;
  good.itl_s = {0.25, 0.25, 0.25, 0.25};
  BenchResult bad;
  bad.status = absl::ResourceExhaustedError("queue full");
  bad.completion_tokens = 1000;
  run.results = {good, bad, good};
  const BenchSummary summary = summarize(run, 2);
  CHECK(summary.completed == 2);
  CHECK(summary.failed == 1);
  CHECK(summary.first_error == "queue full");
  CHECK(summary.output_tokens_per_s() == Approx(5));
  CHECK(summary.total_tokens_per_s() == Approx(15));
  CHECK(summary.tpot_s.p50 == Approx(0.25));
  CHECK(summary.itl_s.p99 == Approx(0.25));

  const auto json = nlohmann::json::parse(bench_json({summary}, "here", "{\"read_gbps\": 40}"));
  CHECK(json["runs"][0]["ttft_ms"]["p50"] == Approx(500));
  CHECK(json["ceilings"]["read_gbps"] == 40);
  CHECK(bench_table({summary}).find("| 2 | 2 | 1 | 5.0 | 15.0 |") != std::string::npos);
}

}  // namespace pelton
