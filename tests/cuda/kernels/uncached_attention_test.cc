#include "cuda/kernels/uncached_attention.h"

#include <algorithm>

#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {
namespace {

struct EncoderCase {
  ElementType type = ElementType::kBF16;
  int num_q_heads = 4;
  int num_kv_heads = 2;
  int head_dim = 64;
  std::vector<int> lengths;

  int64_t cols() const { return int64_t{num_q_heads + 2 * num_kv_heads} * head_dim; }
};

// Rows of a sequence are drawn by its length and head sizes alone.
std::vector<float> rows_of(const EncoderCase& c, int length) {
  return as_elements(c.type, random_values(length * c.cols(), 17 + static_cast<uint64_t>(length)));
}

std::vector<uint16_t> run(const EncoderCase& c) {
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

std::vector<double> reference(const EncoderCase& c) {
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

}  // namespace

TEST_CASE("Encoder attention matches float64 in every type and head size") {
  for (const ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (const int head_dim : {8, 24, 64, 128, 256}) {
      EncoderCase c;
      c.type = type;
      c.head_dim = head_dim;
      c.lengths = {1, 19, 0, 100};
      INFO("type " << static_cast<int>(type) << " head_dim " << head_dim);
      check_close(to_floats(type, run(c)), reference(c), element_tolerance(type),
                  type == ElementType::kBF16 ? 0.01 : 0.0015);
    }
  }
  EncoderCase longer;
  longer.num_q_heads = 3;
  longer.num_kv_heads = 3;
  longer.head_dim = 32;
  longer.lengths = {300, 64};
  check_close(to_floats(longer.type, run(longer)), reference(longer),
              element_tolerance(longer.type), 0.01);
}

TEST_CASE("Encoder attention of a sequence is the same to the bit in any batch") {
  EncoderCase alone;
  alone.lengths = {140};
  EncoderCase batch = alone;
  batch.lengths = {33, 140, 5};
  const std::vector<uint16_t> expected = run(alone), all = run(batch);
  const auto first = all.begin() + int64_t{33} * alone.num_q_heads * alone.head_dim;
  CHECK(std::equal(expected.begin(), expected.end(), first));
}

TEST_CASE("Encoder attention refuses what it has no kernel for") {
  UncachedAttentionParams p;
  p.num_q_heads = 4;
  p.num_kv_heads = 2;
  p.head_dim = 64;
  p.scale = 1;
  CHECK(uncached_attention(p, nullptr) == cudaSuccess);  // and nothing to do
  p.head_dim = 20;
  CHECK(uncached_attention(p, nullptr) == cudaErrorInvalidValue);
  p.head_dim = 64;
  p.num_kv_heads = 3;
  CHECK(uncached_attention(p, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
