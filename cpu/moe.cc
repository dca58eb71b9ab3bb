#include "cpu/moe.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"

namespace pelton::cpu {
namespace {

Tensor dense(float* data, int64_t rows, int64_t cols) {
  Tensor t;
  t.data = data;
  t.rows = rows;
  t.cols = cols;
  t.row_stride = cols;
  return t;
}

void route_row(const RouteParams& p, int64_t m) {
  const float* logits = p.logits.row<const float>(m);
  const auto experts = static_cast<int>(p.logits.cols);
  std::vector<double> scores(experts);
  const double top = *std::max_element(logits, logits + experts);
  double sum = 0;
  for (int e = 0; e < experts; ++e) {
    scores[e] = p.sigmoid ? 1.0 / (1.0 + std::exp(-static_cast<double>(logits[e])))
                          : std::exp(logits[e] - top);
    sum += scores[e];
  }
  if (p.sigmoid) sum = 1;
  std::vector<int> order(experts);
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + p.top_k, order.end(), [&](int a, int b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  double kept = 0;
  for (int i = 0; i < p.top_k; ++i) kept += scores[order[i]];
  for (int i = 0; i < p.top_k; ++i) {
    p.expert_ids.row<int32_t>(m)[i] = order[i];
    p.expert_weights.row<float>(m)[i] =
        static_cast<float>(scores[order[i]] / (p.renormalize ? kept : sum) * p.scale);
  }
}

}  // namespace

void Experts::route(const RouteParams& p) {
  PELTON_CHECK(p.top_k >= 1 && p.top_k <= p.logits.cols, "route: top_k");
  pool_.run(p.logits.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t m = begin; m < end; ++m) route_row(p, m);
  });
}

void Experts::run(const ExpertsParams& p) {
  const int64_t hidden = p.x.cols;
  chosen_by_.resize(p.gate_up.size());
  for (auto& list : chosen_by_) list.clear();
  for (int64_t m = 0; m < p.x.rows; ++m) {
    for (int64_t i = 0; i < p.expert_ids.cols; ++i) {
      const int32_t expert = p.expert_ids.row<const int32_t>(m)[i];
      PELTON_CHECK(expert >= 0 && expert < static_cast<int>(p.gate_up.size()), "experts: id");
      chosen_by_[expert].push_back({m, p.expert_weights.row<const float>(m)[i]});
    }
    std::fill_n(p.out.row<float>(m), hidden, 0.0F);
  }
  for (size_t e = 0; e < chosen_by_.size(); ++e) {
    const std::vector<Choice>& list = chosen_by_[e];
    if (list.empty()) continue;
    const auto rows = static_cast<int64_t>(list.size());
    const auto& gate_up = static_cast<const PackedMatrix&>(*p.gate_up[e]);
    const auto& down = static_cast<const PackedMatrix&>(*p.down[e]);
    const int64_t ffn = gate_up.rows() / 2;
    const Tensor x = dense(gathered_.floats(rows * hidden), rows, hidden);
    const Tensor h = dense(hidden_.floats(rows * 3 * ffn), rows, 2 * ffn);
    const Tensor act = dense(static_cast<float*>(h.data) + rows * 2 * ffn, rows, ffn);
    const Tensor y = dense(result_.floats(rows * hidden), rows, hidden);
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(p.x.row<const float>(list[r].token), hidden, x.row<float>(r));
    }
    linear_.run(x, gate_up, nullptr, h);
    pool_.run(rows, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const float* gate = h.row<const float>(r);
        kernels_.activate(p.activation, gate, gate + ffn, ffn, act.row<float>(r));
      }
    });
    linear_.run(act, down, nullptr, y);
    for (int64_t r = 0; r < rows; ++r) {
      kernels_.axpy(list[r].weight, y.row<const float>(r), hidden, p.out.row<float>(list[r].token));
    }
  }
}

}  // namespace pelton::cpu
