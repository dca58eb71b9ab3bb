// The naive backend's sampler: sampler_spec.h word by word, with whole sorts and float64.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/random.h"
#include "tests/support/naive_backend.h"

namespace pelton {
namespace {

// Ids by value, likeliest first, ties by id.
std::vector<TokenId> ranked(const std::vector<double>& value) {
  std::vector<TokenId> ids(value.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) {
    return value[a] != value[b] ? value[a] > value[b] : a < b;
  });
  return ids;
}

TokenId draw(const SampleRow& row, std::vector<double> logit) {
  for (double& x : logit) x /= row.temperature;
  std::vector<TokenId> ids = ranked(logit);
  std::erase_if(ids, [&](TokenId id) { return std::isinf(logit[id]); });
  if (row.top_k > 0 && row.top_k < static_cast<int>(ids.size())) ids.resize(row.top_k);
  std::vector<double> p(logit.size(), 0.0);
  double total = 0;
  for (TokenId id : ids) total += (p[id] = std::exp(logit[id] - logit[ids[0]]));
  for (TokenId id : ids) p[id] /= total;
  const double least = row.min_p * p[ids[0]];
  std::erase_if(ids, [&](TokenId id) { return p[id] < least; });
  if (row.top_p < 1.0F) {
    total = std::accumulate(ids.begin(), ids.end(), 0.0,
                            [&](double sum, TokenId id) { return sum + p[id]; });
    double sum = 0;
    size_t kept = 0;
    while (kept < ids.size() && sum < row.top_p * total) sum += p[ids[kept++]];
    ids.resize(std::max<size_t>(kept, 1));
  }
  std::sort(ids.begin(), ids.end());
  total = 0;
  for (TokenId id : ids) total += p[id];
  const double target = counter_uniform(row.seed, row.position) * total;
  double sum = 0;
  for (TokenId id : ids) {
    sum += p[id];
    if (sum > target) return id;
  }
  return ids.back();
}

SampledToken sample_row(const SampleRow& row, const float* raw, int64_t vocab) {
  SampledToken out;
  const std::vector<double> plain(raw, raw + vocab);
  std::vector<double> logit = plain;
  for (TokenId id : row.banned) logit[id] = -INFINITY;
  for (int64_t i = 0; i < vocab && !row.mask.empty(); ++i) {
    if (((row.mask[i / 32] >> (i % 32)) & 1U) == 0) logit[i] = -INFINITY;
  }
  out.nan = std::any_of(plain.begin(), plain.end(), [](double x) { return std::isnan(x); }) ||
            std::none_of(logit.begin(), logit.end(), [](double x) { return std::isfinite(x); });
  if (out.nan) return out;
  if (row.forced_token >= 0) {
    out.token = row.forced_token;
  } else if (row.temperature == 0.0F) {
    out.token = ranked(logit)[0];
  } else {
    out.token = draw(row, logit);
  }
  if (row.logprobs < 0) return out;
  const std::vector<TokenId> ids = ranked(plain);
  double sum = 0;
  for (double x : plain) sum += std::exp(x - plain[ids[0]]);
  const double log_sum = plain[ids[0]] + std::log(sum);
  const auto entry = [&](int64_t rank) {
    return TokenLogprob{ids[rank], static_cast<float>(plain[ids[rank]] - log_sum),
                        static_cast<int>(rank) + 1};
  };
  out.logprobs.chosen = entry(std::find(ids.begin(), ids.end(), out.token) - ids.begin());
  for (int64_t r = 0; r < std::min<int64_t>(row.logprobs, vocab); ++r) {
    out.logprobs.top.push_back(entry(r));
  }
  return out;
}

}  // namespace

Status NaiveBackend::sample(const Tensor& logits, std::span<const SampleRow> rows) {
  sampled_.clear();
  for (const SampleRow& row : rows) {
    sampled_.push_back(sample_row(row, logits.row<float>(row.logit_row), logits.cols));
  }
  return Status();
}

StatusOr<std::vector<SampledToken>> NaiveBackend::collect() {
  return std::exchange(sampled_, {});
}

}  // namespace pelton
