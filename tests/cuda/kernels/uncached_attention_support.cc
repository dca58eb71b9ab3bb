#include "tests/cuda/kernels/uncached_attention_support.h"

#include <algorithm>

namespace pelton::cuda::test {
namespace {

// Rows of a sequence are drawn by its length and head sizes alone.
std::vector<float> rows_of(const EncoderCase& c, int length) {
  return as_elements(c.type, random_values(length * c.cols(), 17 + static_cast<uint64_t>(length)));
}

}  // namespace

std::vector<uint16_t> run_uncached_attention(
    const EncoderCase& c, const std::function<void(const void*, const std::string&)>& watch) {
  std::vector<int32_t> starts = {0};
  std::vector<float> qkv;
  for (const int length : c.lengths) {
    starts.push_back(starts.back() + length);
    const std::vector<float> rows = rows_of(c, length);
    qkv.insert(qkv.end(), rows.begin(), rows.end());
  }
  AttentionShape shape;
  shape.num_q_heads = c.num_q_heads;
  shape.num_kv_heads = c.num_kv_heads;
  shape.head_dim = c.head_dim;
  AttentionPlan plan;
  plan_uncached_attention(shape, starts, plan);
  CHECK(plan.num_prefill <=
        max_attention_items(shape, static_cast<int>(c.lengths.size()), starts.back()));
  const int64_t out_cols = int64_t{c.num_q_heads} * c.head_dim;
  const DeviceArray<uint16_t> x(to_elements(c.type, qkv));
  const DeviceArray<uint16_t> out(std::vector<uint16_t>(starts.back() * out_cols, 0xffff));
  const DeviceArray<AttentionItem> items(plan.items);
  if (watch) {
    watch(x.data(), "qkv");
    watch(out.data(), "out");
  }
  UncachedAttentionParams p;
  p.type = c.type;
  p.qkv = x.data();
  p.qkv_stride = c.cols();
  p.out = out.data();
  p.out_stride = out_cols;
  p.num_q_heads = c.num_q_heads;
  p.num_kv_heads = c.num_kv_heads;
  p.head_dim = c.head_dim;
  p.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  p.items = items.data();
  p.num_items = plan.num_prefill;
  must(uncached_attention(p, nullptr));
  must(cudaDeviceSynchronize());
  return out.host();
}

std::vector<double> reference_uncached_attention(const EncoderCase& c) {
  std::vector<double> out;
  const int dim = c.head_dim;
  for (const int length : c.lengths) {
    const std::vector<float> rows = rows_of(c, length);
    const auto at = [&](int t, int head, int d) {
      return static_cast<double>(rows[t * c.cols() + head * dim + d]);
    };
    for (int t = 0; t < length; ++t) {
      for (int head = 0; head < c.num_q_heads; ++head) {
        const int k_head = c.num_q_heads + head / (c.num_q_heads / c.num_kv_heads);
        std::vector<double> total(dim);
        double sum = 0;
        for (int u = 0; u < length; ++u) {
          double dot = 0;
          for (int d = 0; d < dim; ++d) dot += at(t, head, d) * at(u, k_head, d);
          const double weight = std::exp(dot / std::sqrt(static_cast<double>(dim)));
          sum += weight;
          for (int d = 0; d < dim; ++d) total[d] += weight * at(u, k_head + c.num_kv_heads, d);
        }
        for (const double x : total) out.push_back(x / sum);
      }
    }
  }
  return out;
}

}  // namespace pelton::cuda::test
