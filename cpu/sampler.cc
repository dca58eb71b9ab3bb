#include "cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/random.h"

namespace pelton::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

TokenId argmax(const float* x, int vocab, float top) {
  return static_cast<TokenId>(std::find(x, x + vocab, top) - x);
}

// Descending order: larger x first, then lower id.
template <typename T>
bool comes_first(const T& a, const T& b) {
  return a.x != b.x ? a.x > b.x : a.id < b.id;
}

// The shortest prefix in descending order whose amounts (amount(candidate)) reach `target`, moved
// to the front; its length. Everything, if the whole does not reach it. Expected linear time.
template <typename It, typename Amount>
int64_t select_prefix(It begin, It end, uint64_t target, Amount amount) {
  using Value = typename std::iterator_traits<It>::value_type;
  It low = begin, high = end;
  uint64_t before = 0;  // amount of [begin, low), which is part of the prefix
  while (high - low > 16) {
    It middle = low + (high - low) / 2;
    std::nth_element(low, middle, high, comes_first<Value>);
    uint64_t part = 0;
    for (It it = low; it != middle; ++it) part += amount(*it);
    if (before + part >= target) {
      high = middle;
    } else {
      before += part;
      low = middle;
    }
  }
  std::sort(low, high, comes_first<Value>);
  for (; low != high; ++low) {
    if (before >= target) break;
    before += amount(*low);
  }
  return low - begin;
}

uint64_t threshold(float fraction, uint64_t of) {
  return static_cast<uint64_t>(std::ceil(static_cast<double>(fraction) * static_cast<double>(of)));
}

}  // namespace

Sampler::Sampler(const KernelTable& kernels, ThreadPool& pool)
    : kernels_(kernels), pool_(pool), workers_(pool.threads()) {}

std::vector<SampledToken> Sampler::run(const Tensor& logits, std::span<const SampleRow> rows) {
  std::vector<SampledToken> out(rows.size());
  pool_.run(static_cast<int64_t>(rows.size()), 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t r = begin; r < end; ++r) {
      out[r] = sample_row(logits.row<const float>(rows[r].logit_row), static_cast<int>(logits.cols),
                          rows[r], workers_[worker]);
    }
  });
  return out;
}

SampledToken Sampler::sample_row(const float* logits, int vocab, const SampleRow& row,
                                 Worker& worker) {
  SampledToken out;
  if (kernels_.row_max(logits, vocab).bad) {
    out.nan = true;
    return out;
  }
  if (row.forced_token >= 0) {
    out.token = row.forced_token;
  } else {
    const float* x = logits;
    if (!row.banned.empty() || !row.mask.empty()) {
      worker.x.assign(logits, logits + vocab);
      for (TokenId id : row.banned) worker.x[id] = kMinusInfinity;
      if (!row.mask.empty()) {
        for (int id = 0; id < vocab; ++id) {
          if ((row.mask[id / 32] >> (id % 32) & 1) == 0) worker.x[id] = kMinusInfinity;
        }
      }
      x = worker.x.data();
    }
    const float top = kernels_.row_max(x, vocab).value;
    if (top == kMinusInfinity) {
      out.nan = true;
      return out;
    }
    const float divided_top = top / row.temperature;
    if (row.temperature == 0 || !std::isfinite(divided_top)) {
      out.token = argmax(x, vocab, top);
    } else {
      worker.x.resize(vocab);
      kernels_.divide(x, vocab, row.temperature, worker.x.data());
      out.token = draw(worker.x.data(), vocab, divided_top, row, worker);
    }
  }
  if (row.logprobs >= 0) out.logprobs = score(logits, vocab, out.token, row.logprobs);
  return out;
}

TokenId Sampler::draw(const float* x, int vocab, float top, const SampleRow& row, Worker& worker) {
  worker.weights.resize(vocab);
  uint32_t* weights = worker.weights.data();
  uint64_t total = kernels_.sampler_weights(x, vocab, top, weights);
  if (row.top_k > 0 || row.top_p < 1 || row.min_p > 0) {
    total = filter(x, vocab, row, total, worker);
  }
  const auto target = static_cast<uint64_t>(
      static_cast<double>(counter_uniform(row.seed, row.position)) * static_cast<double>(total));
  uint64_t sum = 0;
  int id = 0;
  constexpr int kRun = 256;  // whole runs are skipped by their sums
  for (; id + kRun <= vocab; id += kRun) {
    uint64_t run = 0;
    for (int i = id; i < id + kRun; ++i) run += weights[i];
    if (sum + run > target) break;
    sum += run;
  }
  TokenId last = 0;
  for (; id < vocab; ++id) {
    if (weights[id] == 0) continue;
    last = id;
    sum += weights[id];
    if (sum > target) break;
  }
  return last;
}

uint64_t Sampler::filter(const float* x, int vocab, const SampleRow& row, uint64_t total,
                         Worker& worker) {
  uint32_t* weights = worker.weights.data();
  const auto min_weight = static_cast<uint32_t>(
      std::max<uint64_t>(1, threshold(std::min(row.min_p, 1.0F), kSamplerOne)));
  if (row.top_k <= 0 && row.top_p >= 1) {
    uint64_t kept = 0;
    for (int id = 0; id < vocab; ++id) {
      if (weights[id] < min_weight) weights[id] = 0;
      kept += weights[id];
    }
    return kept;
  }
  std::vector<Candidate>& candidates = worker.candidates;
  // Likely ids first: most often those within a factor of the best already hold the cut.
  for (const uint32_t floor : {kSamplerOne >> 10, uint32_t{1}}) {
    candidates.clear();
    uint64_t sum = 0;
    for (int id = 0; id < vocab; ++id) {
      if (weights[id] < floor) continue;
      candidates.push_back({x[id], id, weights[id]});
      sum += weights[id];
    }
    const bool enough = row.top_k > 0 ? candidates.size() >= static_cast<size_t>(row.top_k)
                                      : sum >= threshold(row.top_p, total);
    if (enough) break;
  }
  auto end = candidates.end();
  const auto begin = candidates.begin();
  if (row.top_k > 0 && end - begin > row.top_k) {
    end = begin + select_prefix(begin, end, row.top_k, [](const Candidate&) { return 1; });
  }
  const auto weight = [](const Candidate& c) { return c.weight; };
  if (row.top_k > 0) {
    total = 0;
    for (auto it = begin; it != end; ++it) total += it->weight;
  }
  if (row.min_p > 0) {
    end = std::partition(begin, end, [&](const Candidate& c) { return c.weight >= min_weight; });
  }
  if (row.top_p < 1) end = begin + select_prefix(begin, end, threshold(row.top_p, total), weight);
  if (end == begin) ++end;  // top_p 0 keeps the likeliest
  std::fill_n(weights, vocab, 0);
  uint64_t kept = 0;
  for (auto it = begin; it != end; ++it) {
    weights[it->id] = it->weight;
    kept += it->weight;
  }
  return kept;
}

PositionLogprobs Sampler::score(const float* logits, int vocab, TokenId chosen, int top) const {
  const float max = kernels_.row_max(logits, vocab).value;
  const double log_sum = std::log(kernels_.exp_sum(logits, vocab, max));
  const auto logprob = [&](TokenId id) {
    return static_cast<float>(static_cast<double>(logits[id]) - max - log_sum);
  };
  PositionLogprobs out;
  int rank = 1;
  for (int id = 0; id < vocab; ++id) {
    rank += logits[id] > logits[chosen] || (logits[id] == logits[chosen] && id < chosen);
  }
  out.chosen = {chosen, logprob(chosen), rank};
  struct Entry {
    float x;
    TokenId id;
  };
  std::vector<Entry> heap;  // the best so far, the worst of them in front
  const auto wanted = static_cast<size_t>(std::min(top, vocab));
  for (int id = 0; id < vocab && wanted > 0; ++id) {
    const Entry entry = {logits[id], id};
    if (heap.size() == wanted) {
      if (!comes_first(entry, heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end(), comes_first<Entry>);
      heap.pop_back();
    }
    heap.push_back(entry);
    std::push_heap(heap.begin(), heap.end(), comes_first<Entry>);
  }
  std::sort(heap.begin(), heap.end(), comes_first<Entry>);
  for (size_t i = 0; i < heap.size(); ++i) {
    out.top.push_back({heap[i].id, logprob(heap[i].id), static_cast<int>(i) + 1});
  }
  return out;
}

}  // namespace pelton::cpu
