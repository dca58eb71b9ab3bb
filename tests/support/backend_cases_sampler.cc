#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/support/backend_cases.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {

SampledToken reference_sample(const float* logits, int vocab, const SampleRow& row) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  SampledToken out;
  std::vector<float> x(logits, logits + vocab);
  for (float v : x) out.nan |= std::isnan(v) || v == -kMinusInfinity;
  for (TokenId id : row.banned) x[id] = kMinusInfinity;
  for (int id = 0; id < vocab && !row.mask.empty(); ++id) {
    if ((row.mask[id / 32] >> (id % 32) & 1) == 0) x[id] = kMinusInfinity;
  }
  std::vector<int> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  const auto descending = [&](int a, int b) { return x[a] != x[b] ? x[a] > x[b] : a < b; };
  if (!out.nan) std::sort(order.begin(), order.end(), descending);
  out.nan |= x[order[0]] == kMinusInfinity && row.forced_token < 0;
  if (out.nan) return out;
  out.token = order[0];
  if (row.forced_token >= 0) {
    out.token = row.forced_token;
  } else if (row.temperature > 0 && std::isfinite(x[order[0]] / row.temperature)) {
    for (float& v : x) v /= row.temperature;
    std::sort(order.begin(), order.end(), descending);  // division can make new ties
    std::vector<uint64_t> weights;
    uint64_t total = 0;
    const size_t top_k = row.top_k > 0 ? std::min(row.top_k, vocab) : vocab;
    for (size_t i = 0; i < top_k; ++i) {
      weights.push_back(sampler_weight(x[order[i]] - x[order[0]]));
      total += weights.back();
    }
    const auto reach = [](float fraction, uint64_t of) {
      return static_cast<uint64_t>(
          std::ceil(static_cast<double>(fraction) * static_cast<double>(of)));
    };
    size_t kept = top_k;
    while (kept > 1 && weights[kept - 1] < reach(row.min_p, kSamplerOne)) --kept;
    if (row.top_p < 1) {
      uint64_t sum = weights[0];
      size_t n = 1;
      while (n < kept && sum < reach(row.top_p, total)) sum += weights[n++];
      kept = n;
    }
    std::vector<std::pair<int, uint64_t>> ascending;
    uint64_t sum = 0;
    for (size_t i = 0; i < kept; ++i) {
      ascending.emplace_back(order[i], weights[i]);
      sum += weights[i];
    }
    std::sort(ascending.begin(), ascending.end());
    const auto target = static_cast<uint64_t>(
        static_cast<double>(counter_uniform(row.seed, row.position)) * static_cast<double>(sum));
    uint64_t running = 0;
    for (const auto& [id, weight] : ascending) {
      running += weight;
      if (running > target) {
        out.token = id;
        break;
      }
    }
  }
  if (row.logprobs >= 0) {
    double sum = 0;
    const double top = *std::max_element(logits, logits + vocab);
    for (int id = 0; id < vocab; ++id) sum += std::exp(logits[id] - top);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    for (int i = 0; i < vocab; ++i) {
      const TokenLogprob entry = {
          order[i], static_cast<float>(logits[order[i]] - top - std::log(sum)), i + 1};
      if (i < row.logprobs) out.logprobs.top.push_back(entry);
      if (order[i] == out.token) out.logprobs.chosen = entry;
    }
  }
  return out;
}

namespace {

void check_same_logprobs(const PositionLogprobs& a, const PositionLogprobs& b) {
  const auto check_one = [](const TokenLogprob& x, const TokenLogprob& y) {
    CHECK(x.token == y.token);
    CHECK(x.rank == y.rank);
    if (std::isinf(y.logprob)) {
      CHECK(x.logprob == y.logprob);
    } else {
      CHECK(std::fabs(x.logprob - y.logprob) <= 2e-6 * (1 + std::fabs(y.logprob)));
    }
  };
  check_one(a.chosen, b.chosen);
  REQUIRE(a.top.size() == b.top.size());
  for (size_t i = 0; i < a.top.size(); ++i) check_one(a.top[i], b.top[i]);
}

// Logits of several characters, ties and -inf among them.
std::vector<float> awkward_logits(int vocab, int kind) {
  std::vector<float> x = random_normal(vocab, 40 + kind, kind % 3 == 0 ? 5.0F : 1.0F);
  if (kind == 1) std::fill(x.begin(), x.end(), 0.5F);
  if (kind == 2) {
    for (float& v : x) v = std::round(v * 2) / 2;
  }
  if (kind == 3) {
    for (int i = 0; i < vocab; ++i) {
      if (i % 3 != 1) x[i] = -std::numeric_limits<float>::infinity();
    }
  }
  if (kind == 4) x[vocab / 2] = 60;
  return x;
}

}  // namespace

void check_sampler(Backend& backend) {
  for (int vocab : {3, 100, 5003}) {
    for (int kind = 0; kind < 5; ++kind) {
      const std::vector<float> logits = awkward_logits(vocab, kind);
      const DeviceTensor device = upload_as(backend, logits, vocab, DType::kF32);
      std::vector<SampleRow> rows;
      const std::vector<TokenId> banned = {0, vocab - 1};
      std::vector<uint32_t> mask((vocab + 31) / 32, 0x5A5A5A5BU);
      for (float temperature : {0.0F, 1e-38F, 0.3F, 1.0F, 3.0F}) {
        for (int top_k : {0, 1, 2, 40}) {
          for (float top_p : {1.0F, 0.95F, 0.5F, 0.0F}) {
            for (float min_p : {0.0F, 0.1F, 1.0F}) {
              SampleRow row;
              row.temperature = temperature;
              row.top_k = top_k;
              row.top_p = top_p;
              row.min_p = min_p;
              row.seed = rows.size() * 977;
              row.position = rows.size();
              row.logprobs = static_cast<int>(rows.size() % 7) - 1;
              if (rows.size() % 5 == 1 && vocab > 3) row.banned = banned;
              if (rows.size() % 5 == 2) row.mask = mask;
              if (rows.size() % 11 == 3) row.forced_token = vocab / 2;
              rows.push_back(row);
            }
          }
        }
      }
      must_ok(backend.sample(device.view, rows));
      const std::vector<SampledToken> got = must(backend.collect());
      REQUIRE(got.size() == rows.size());
      for (size_t r = 0; r < rows.size(); ++r) {
        const SampledToken expected = reference_sample(logits.data(), vocab, rows[r]);
        INFO("vocab " << vocab << " kind " << kind << " T " << rows[r].temperature << " top_k "
                      << rows[r].top_k << " top_p " << rows[r].top_p << " min_p " << rows[r].min_p);
        REQUIRE(got[r].nan == expected.nan);
        if (expected.nan) continue;
        REQUIRE(got[r].token == expected.token);
        if (rows[r].logprobs >= 0) check_same_logprobs(got[r].logprobs, expected.logprobs);
      }
    }
  }
  // NaN, +inf and nothing left are flagged, beside rows that are well.
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {1,    2,    std::nanf(""), 0,    1, inf, 0, 0,
                                     -inf, -inf, -inf,          -inf, 1, 2,   3, 4};
  const DeviceTensor device = upload_as(backend, logits, 4, DType::kF32);
  const std::vector<TokenId> all = {0, 1, 2, 3};
  std::vector<SampleRow> rows(5);
  for (int r = 0; r < 4; ++r) rows[r].logit_row = r;
  rows[4].logit_row = 3;
  rows[4].banned = all;
  must_ok(backend.sample(device.view, rows));
  const std::vector<SampledToken> got = must(backend.collect());
  REQUIRE(got[0].nan);
  REQUIRE(got[1].nan);
  REQUIRE(got[2].nan);
  REQUIRE(!got[3].nan);
  REQUIRE(got[4].nan);
}

void check_drawn_tokens(Backend& backend) {
  const int vocab = 50;
  const int64_t hidden = 32;
  std::vector<float> logits = random_normal(int64_t{3} * vocab, 21);
  logits[2 * vocab + 7] = std::numeric_limits<float>::quiet_NaN();
  const DeviceTensor device_logits = upload_bytes(backend, logits.data(), 3, vocab, DType::kF32);
  std::vector<SampleRow> rows(4);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].logit_row = std::vector<int>{1, 0, 2, 1}[i];
    rows[i].seed = i + 5;
  }
  const FloatSource source(DType::kBF16, vocab, hidden, random_normal(vocab * hidden, 22));
  const std::unique_ptr<Matrix> table = pack_one(backend, source);
  const auto embed = [&](const Batch& batch) {
    const DeviceTensor out = make_activations(backend, batch.num_tokens(), hidden);
    const StepPlan* plan = must(backend.prepare(batch, KvGeometry{}));
    backend.embed(*plan,
                  {.table = table.get(), .positions = nullptr, .scale = 1.0F, .out = out.view});
    return download(backend, out.view);
  };
  Batch batch;
  batch.tokens = {9, 0, 0, 11, 0};
  batch.positions = {0, 1, 4, 8, 9};
  batch.query_start_loc = {0, 2, 3, 5};
  batch.seq_lens = {2, 5, 10};
  batch.drawn = {{1, 3}, {2, 2}, {4, 1}};

  must_ok(backend.sample(device_logits.view, rows));
  const std::vector<float> on_device = embed(batch);
  const std::vector<SampledToken> ids = must(backend.collect());
  REQUIRE(ids.size() == rows.size());
  CHECK(ids[2].nan);
  batch.drawn.clear();
  batch.tokens = {9, ids[3].token, 0, 11, ids[1].token};
  std::vector<float> on_host = embed(batch);
  // The row that is not a number gives some id: its embedding is not looked at, but is there.
  std::copy_n(on_device.begin() + 2 * hidden, hidden, on_host.begin() + 2 * hidden);
  CHECK(same_bits(on_device, on_host));
  must_ok(backend.sample(device_logits.view, {}));
  CHECK(must(backend.collect()).empty());
}

}  // namespace pelton::test
