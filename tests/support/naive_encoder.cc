// The naive backend's ops of encoders and routed MLPs.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "tests/support/naive_backend.h"
#include "tests/support/naive_parts.h"

namespace pelton {

void NaiveBackend::encoder_attention(const EncoderAttentionParams& p) {
  const Batch& batch = naive(p.plan).batch;
  const int64_t d = p.head_dim;
  std::vector<double> weight;
  for (int m = 0; m < batch.num_tokens(); ++m) {
    const int s = naive(p.plan).sequence[m];
    const int begin = batch.query_start_loc[s], end = batch.query_start_loc[s + 1];
    for (int h = 0; h < p.num_q_heads; ++h) {
      const int kv_head = h / (p.num_q_heads / p.num_kv_heads);
      const int64_t k = (p.num_q_heads + kv_head) * d, v = k + p.num_kv_heads * d;
      weight.clear();
      for (int t = begin; t < end; ++t) {
        const float* q = p.qkv.row<float>(m) + h * d;
        weight.push_back(p.scale * std::inner_product(q, q + d, p.qkv.row<float>(t) + k, 0.0));
      }
      const double top = *std::max_element(weight.begin(), weight.end());
      double sum = 0;
      for (double& w : weight) sum += (w = std::exp(w - top));
      for (int64_t i = 0; i < d; ++i) {
        double out = 0;
        for (int t = begin; t < end; ++t) out += weight[t - begin] * p.qkv.row<float>(t)[v + i];
        p.out.row<float>(m)[h * d + i] = static_cast<float>(out / sum);
      }
    }
  }
}

void NaiveBackend::route(const RouteParams& p) {
  const auto experts = static_cast<int>(p.logits.cols);
  for (int64_t m = 0; m < p.logits.rows; ++m) {
    const float* logits = p.logits.row<float>(m);
    std::vector<int> order(experts);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return std::pair(-logits[a], a) < std::pair(-logits[b], b); });
    std::vector<double> score(experts);
    for (int e = 0; e < experts; ++e) {
      score[e] = p.sigmoid ? 1 / (1 + std::exp(-double{logits[e]}))
                           : std::exp(double{logits[e]} - logits[order[0]]);
    }
    double all = 0, kept = 0;
    for (int e = 0; e < experts; ++e) all += score[e];
    for (int i = 0; i < p.top_k; ++i) kept += score[order[i]];
    const double divisor = p.renormalize ? kept : p.sigmoid ? 1 : all;
    for (int i = 0; i < p.top_k; ++i) {
      p.expert_ids.row<int32_t>(m)[i] = order[i];
      p.expert_weights.row<float>(m)[i] = static_cast<float>(score[order[i]] / divisor * p.scale);
    }
  }
}

void NaiveBackend::experts(const ExpertsParams& p) {
  const int64_t hidden = p.x.cols, ffn = p.down[0]->cols();
  for (int64_t m = 0; m < p.x.rows; ++m) {
    const float* x = p.x.row<float>(m);
    std::vector<double> sum(hidden), h(ffn);
    for (int64_t i = 0; i < p.expert_ids.cols; ++i) {
      const int32_t expert = p.expert_ids.row<int32_t>(m)[i];
      const double weight = p.expert_weights.row<float>(m)[i];
      const NaiveMatrix& gate_up = naive(p.gate_up[expert]);
      const NaiveMatrix& down = naive(p.down[expert]);
      for (int64_t f = 0; f < ffn; ++f) {
        const double gate = std::inner_product(x, x + hidden, gate_up.row(f), 0.0);
        const double up = std::inner_product(x, x + hidden, gate_up.row(ffn + f), 0.0);
        h[f] = naive_activate(p.activation, gate) * up;
      }
      for (int64_t n = 0; n < hidden; ++n) {
        sum[n] += weight * std::inner_product(h.begin(), h.end(), down.row(n), 0.0);
      }
    }
    for (int64_t n = 0; n < hidden; ++n) p.out.row<float>(m)[n] = static_cast<float>(sum[n]);
  }
}

void NaiveBackend::pool(const PoolParams& p) {
  const Batch& batch = naive(p.plan).batch;
  for (int s = 0; s < batch.num_seqs(); ++s) {
    const int begin = batch.query_start_loc[s], end = batch.query_start_loc[s + 1];
    std::vector<double> row(p.x.cols);
    const int first = p.kind == Pooling::kLast ? end - 1 : begin;
    const int last = p.kind == Pooling::kFirst ? begin + 1 : end;
    for (int m = first; m < last; ++m) {
      for (int64_t i = 0; i < p.x.cols; ++i)
        row[i] += p.x.row<float>(m)[i] / static_cast<double>(last - first);
    }
    const double length = std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0));
    for (int64_t i = 0; i < p.x.cols; ++i) {
      p.out.row<float>(s)[i] = static_cast<float>(p.normalize ? row[i] / length : row[i]);
    }
  }
}

}  // namespace pelton
