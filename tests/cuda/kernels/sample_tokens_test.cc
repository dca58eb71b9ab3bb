// The sampler against the reference that every backend is held to.
#include "cuda/kernels/sample_tokens.h"

#include <algorithm>
#include <limits>

#include "backend/sampler_spec.h"
#include "tests/cuda/kernels/device_array.h"
#include "tests/cuda/kernels/schedules.h"
#include "tests/support/backend_cases.h"

namespace pelton::cuda::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kTop = 8;

// Logits of several characters, ties and -inf among them.
std::vector<float> awkward_logits(int vocab, int kind) {
  std::vector<float> x = random_values(vocab, 40 + kind, kind % 3 == 0 ? 5.0F : 1.0F);
  if (kind == 1) std::fill(x.begin(), x.end(), 0.5F);
  if (kind == 2) {
    for (float& v : x) v = std::round(v * 2) / 2;
  }
  if (kind == 3) {
    for (int i = 0; i < vocab; ++i) {
      if (i % 3 != 1) x[i] = -kInfinity;
    }
  }
  if (kind == 4) x[vocab / 2] = 60;
  return x;
}

struct Sampled {
  std::vector<SampleResult> results;
  std::vector<int32_t> tokens;
  std::vector<TopLogprob> top;  // [rows, kTop]
};

Sampled run(const std::vector<float>& logits, int vocab, const std::vector<SampleRow>& rows) {
  std::vector<SampleTask> tasks;
  std::vector<int32_t> banned;
  std::vector<uint32_t> masks;
  for (const SampleRow& row : rows) {
    SampleTask task;
    task.logit_row = row.logit_row;
    task.temperature = row.temperature;
    task.top_p = row.top_p;
    task.top_k = row.top_k;
    task.min_weight =
        static_cast<uint32_t>(std::ceil(static_cast<double>(row.min_p) * kSamplerOne));
    task.uniform = counter_uniform(row.seed, row.position);
    task.forced_token = row.forced_token;
    task.logprobs = row.logprobs;
    task.banned_begin = static_cast<int32_t>(banned.size());
    banned.insert(banned.end(), row.banned.begin(), row.banned.end());
    task.banned_end = static_cast<int32_t>(banned.size());
    if (!row.mask.empty()) {
      task.mask = static_cast<int32_t>(masks.size() / row.mask.size());
      masks.insert(masks.end(), row.mask.begin(), row.mask.end());
    }
    tasks.push_back(task);
  }
  const DeviceArray<float> logits_device(logits);
  const DeviceArray<SampleTask> tasks_device(tasks);
  const DeviceArray<int32_t> banned_device(banned), tokens(rows.size());
  const DeviceArray<uint32_t> masks_device(masks);
  const DeviceArray<SampleResult> results(rows.size());
  const DeviceArray<TopLogprob> top(rows.size() * kTop);
  const int count = static_cast<int>(rows.size());
  const DeviceArray<uint8_t> workspace(sample_workspace_bytes(count, vocab));
  SampleParams p;
  p.logits = logits_device.data();
  p.logits_stride = vocab;
  p.vocab = vocab;
  p.tasks = tasks_device.data();
  p.num_tasks = count;
  p.banned = banned_device.data();
  p.masks = masks_device.data();
  p.tokens = tokens.data();
  p.results = results.data();
  p.top = top.data();
  p.max_top = kTop;
  p.workspace = workspace.data();
  must(sample_tokens(p, nullptr));
  must(cudaDeviceSynchronize());
  return {results.host(), tokens.host(), top.host()};
}

void check_logprob(float actual, float expected) {
  if (std::isinf(expected)) {
    CHECK(actual == expected);
  } else {
    CHECK(std::fabs(actual - expected) <= 2e-6 * (1 + std::fabs(expected)));
  }
}

void check_rows(const std::vector<float>& logits, int vocab, const std::vector<SampleRow>& rows) {
  const Sampled got = run(logits, vocab, rows);
  for (size_t r = 0; r < rows.size(); ++r) {
    const SampledToken expected = pelton::test::reference_sample(
        logits.data() + static_cast<int64_t>(rows[r].logit_row) * vocab, vocab, rows[r]);
    INFO("vocab " << vocab << " row " << r << " T " << rows[r].temperature << " top_k "
                  << rows[r].top_k << " top_p " << rows[r].top_p << " min_p " << rows[r].min_p);
    REQUIRE((got.results[r].nan != 0) == expected.nan);
    REQUIRE(got.tokens[r] == got.results[r].token);
    if (expected.nan) {
      CHECK(got.tokens[r] == 0);
      continue;
    }
    REQUIRE(got.results[r].token == expected.token);
    if (rows[r].logprobs < 0) continue;
    CHECK(got.results[r].rank == expected.logprobs.chosen.rank);
    check_logprob(got.results[r].logprob, expected.logprobs.chosen.logprob);
    for (size_t i = 0; i < expected.logprobs.top.size(); ++i) {
      const TopLogprob& top = got.top[r * kTop + i];
      CHECK(top.token == expected.logprobs.top[i].token);
      check_logprob(top.logprob, expected.logprobs.top[i].logprob);
    }
  }
}

// Every combination of the parameters, with bans, masks and forced tokens among them.
std::vector<SampleRow> rows_of_all_kinds(int vocab, const std::vector<TokenId>& banned,
                                         const std::vector<uint32_t>& mask, size_t stride) {
  std::vector<SampleRow> rows;
  size_t index = 0;
  for (const float temperature : {0.0F, 1e-38F, 0.3F, 1.0F, 3.0F}) {
    for (const int top_k : {0, 1, 2, 40}) {
      for (const float top_p : {1.0F, 0.95F, 0.5F, 0.0F}) {
        for (const float min_p : {0.0F, 0.1F, 1.0F}) {
          if (index++ % stride != 0) continue;
          SampleRow row;
          row.temperature = temperature;
          row.top_k = top_k;
          row.top_p = top_p;
          row.min_p = min_p;
          row.seed = index * 977;
          row.position = index;
          row.logprobs = static_cast<int>(rows.size() % 7) - 1;
          if (rows.size() % 5 == 1 && vocab > 3) row.banned = banned;
          if (rows.size() % 5 == 2) row.mask = mask;
          if (rows.size() % 11 == 3) row.forced_token = vocab / 2;
          rows.push_back(row);
        }
      }
    }
  }
  return rows;
}

void check_all_kinds(int vocab, int kind, size_t stride) {
  const std::vector<TokenId> banned = {0, vocab - 1};
  const std::vector<uint32_t> mask((vocab + 31) / 32, 0x5A5A5A5BU);
  check_rows(awkward_logits(vocab, kind), vocab, rows_of_all_kinds(vocab, banned, mask, stride));
}

}  // namespace

TEST_CASE("Tokens are those of the sampling spec for all kinds of logits and parameters") {
  for (int kind = 0; kind < 5; ++kind) {
    check_all_kinds(3, kind, 5);
    check_all_kinds(100, kind, 7);
    check_all_kinds(5003, kind, 23);
  }
}

TEST_CASE("Tokens are those of the sampling spec for every combination", "[long]") {
  for (int kind = 0; kind < 5; ++kind) {
    for (const int vocab : {3, 100, 5003}) check_all_kinds(vocab, kind, 1);
  }
}

TEST_CASE("Tokens do not depend on the schedule") {
  for_schedules(5, [] { check_all_kinds(1000, 2, 23); });
}

TEST_CASE("Rows with NaN or +inf or nothing left are flagged beside rows that are well") {
  const std::vector<float> logits = {
      1,          2,          std::nanf(""), 0,          1, kInfinity, 0, 0,
      -kInfinity, -kInfinity, -kInfinity,    -kInfinity, 1, 2,         3, 4};
  const std::vector<TokenId> all = {0, 1, 2, 3};
  for (const float temperature : {0.0F, 1.0F}) {
    std::vector<SampleRow> rows(5);
    for (SampleRow& row : rows) row.temperature = temperature;
    for (int r = 0; r < 4; ++r) rows[r].logit_row = r;
    rows[4].logit_row = 3;
    rows[4].banned = all;
    const Sampled got = run(logits, 4, rows);
    const std::vector<bool> expected = {true, true, true, false, true};
    for (int r = 0; r < 5; ++r) CHECK((got.results[r].nan != 0) == expected[r]);
  }
}

}  // namespace pelton::cuda::test
