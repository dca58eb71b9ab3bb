#include <algorithm>

#include "tests/support/backend_cases.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {
namespace {

constexpr float kScale = 0.2F;

int64_t qkv_cols(const EncoderCase& c) {
  return int64_t{c.num_q_heads + 2 * c.num_kv_heads} * c.head_dim;
}

std::vector<float> qkv_rows(const EncoderCase& c, int len) {
  return random_normal(len * qkv_cols(c), c.seed + static_cast<uint64_t>(len));
}

// One sequence of rows [len, cols].
std::vector<double> reference(const EncoderCase& c, const std::vector<float>& rows, int len) {
  std::vector<double> out;
  const int64_t cols = qkv_cols(c), dim = c.head_dim;
  for (int t = 0; t < len; ++t) {
    for (int h = 0; h < c.num_q_heads; ++h) {
      const int64_t k_head = c.num_q_heads + h / (c.num_q_heads / c.num_kv_heads);
      const float* q = rows.data() + t * cols + h * dim;
      std::vector<double> scores(len), sum(dim);
      for (int u = 0; u < len; ++u) {
        const float* k = rows.data() + u * cols + k_head * dim;
        for (int64_t d = 0; d < dim; ++d) scores[u] += kScale * static_cast<double>(q[d]) * k[d];
      }
      const double top = *std::max_element(scores.begin(), scores.end());
      double weights = 0;
      for (int u = 0; u < len; ++u) {
        const double weight = std::exp(scores[u] - top);
        const float* v = rows.data() + u * cols + (k_head + c.num_kv_heads) * dim;
        weights += weight;
        for (int64_t d = 0; d < dim; ++d) sum[d] += weight * v[d];
      }
      for (const double value : sum) out.push_back(value / weights);
    }
  }
  return out;
}

}  // namespace

Batch encoder_batch(const std::vector<int>& lens) {
  Batch batch;
  batch.query_start_loc = {0};
  for (const int len : lens) {
    for (int t = 0; t < len; ++t) {
      batch.tokens.push_back(0);
      batch.positions.push_back(t);
    }
    batch.query_start_loc.push_back(batch.num_tokens());
    batch.seq_lens.push_back(len);
  }
  return batch;
}

std::vector<float> run_encoder_attention(Backend& backend, const EncoderCase& c) {
  const Batch batch = encoder_batch(c.lens);
  std::vector<float> values;
  for (const int len : c.lens) {
    const std::vector<float> rows = qkv_rows(c, len);
    values.insert(values.end(), rows.begin(), rows.end());
  }
  const DeviceTensor qkv = upload(backend, values, qkv_cols(c));
  const DeviceTensor out =
      make_activations(backend, batch.num_tokens(), int64_t{c.num_q_heads} * c.head_dim);
  EncoderAttentionParams p;
  p.plan = must(backend.prepare(batch, KvGeometry{}));
  p.qkv = qkv.view;
  p.num_q_heads = c.num_q_heads;
  p.num_kv_heads = c.num_kv_heads;
  p.head_dim = c.head_dim;
  p.scale = kScale;
  p.out = out.view;
  backend.encoder_attention(p);
  must_ok(backend.synchronize());
  return download(backend, out.view);
}

void check_encoder_attention(Backend& backend) {
  const std::vector<EncoderCase> cases = {{.lens = {1, 19, 140}},  {3, 3, 64, {33}},
                                          {4, 1, 128, {65, 2}},    {2, 2, 256, {40}},
                                          {12, 12, 32, {1, 1, 1}}, {1, 1, 8, {300}}};
  for (const EncoderCase& c : cases) {
    INFO("heads " << c.num_q_heads << " over " << c.num_kv_heads << " of " << c.head_dim);
    const std::vector<float> all = run_encoder_attention(backend, c);
    std::vector<double> expected;
    for (const int len : c.lens) {
      const auto rows = reference(c, as_activations(backend, qkv_rows(c, len)), len);
      expected.insert(expected.end(), rows.begin(), rows.end());
    }
    check_near(all, expected, tolerance(backend.activation_dtype()), 4);
    EncoderCase alone = c;  // a sequence has the same bits without its neighbours
    alone.lens = {c.lens.back()};
    const auto rows = static_cast<int64_t>(c.lens.back()) * c.num_q_heads * c.head_dim;
    CHECK(same_bits(run_encoder_attention(backend, alone), {all.end() - rows, all.end()}));
  }
}

}  // namespace pelton::test
