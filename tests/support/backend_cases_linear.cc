#include "tests/support/backend_cases.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {

std::vector<DType> weight_dtypes() {
  return {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
          DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
}

std::vector<float> linear_x(const LinearCase& c) {
  return random_normal(c.m * c.k, c.seed);
}

std::vector<float> linear_weights(const LinearCase& c) {
  return FloatSource(c.dtype, c.n, c.k, random_normal(c.n * c.k, c.seed + 1000)).values();
}

std::vector<float> linear_bias(const LinearCase& c) {
  return random_normal(c.n, c.seed + 2000);
}

std::vector<float> run_linear(Backend& backend, const LinearCase& c) {
  const FloatSource source(c.dtype, c.n, c.k, random_normal(c.n * c.k, c.seed + 1000),
                           c.seed % 2 == 0);
  const auto w = pack_one(backend, source);
  const DeviceTensor x = upload(backend, linear_x(c), c.k);
  const DeviceTensor bias = upload_f32(backend, linear_bias(c));
  const DeviceTensor out = make_tensor(backend, c.m, c.n, DType::kF32, c.n + 3);
  LinearParams p;
  p.x = x.view;
  p.w = w.get();
  p.bias = c.bias ? static_cast<const float*>(bias.view.data) : nullptr;
  p.out = out.view;
  backend.linear(p);
  must_ok(backend.synchronize());
  return download(backend, out.view);
}

void check_linear(Backend& backend) {
  check_linear_seen(backend, [&](DType, const std::vector<float>& x, int64_t) {
    const std::vector<float> seen = as_activations(backend, x);
    return std::vector<double>(seen.begin(), seen.end());
  });
}

void check_linear_seen(Backend& backend, const SeenActivations& seen) {
  for (DType dtype : weight_dtypes()) {
    if (!backend.supports_weights(dtype)) continue;
    const int64_t block = dtype_info(dtype).block_elements;
    const bool plain = block == 1;
    for (int64_t m : {1, 2, 3, 4, 5, 7, 9, 14, 33, 64}) {
      for (int64_t n : {1, 37, 133}) {
        for (int64_t k : {plain ? int64_t{45} : block, plain ? int64_t{1031} : int64_t{512}}) {
          const LinearCase c = {dtype, m, n, k, (m + n) % 2 == 0, static_cast<uint64_t>(m + n)};
          INFO(dtype_info(dtype).name << " m " << m << " n " << n << " k " << k);
          const std::vector<double> x = seen(dtype, linear_x(c), k);
          const std::vector<float> w = as_weights(backend, dtype, linear_weights(c));
          const std::vector<float> bias = linear_bias(c);
          std::vector<double> expected(m * n);
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t j = 0; j < n; ++j) {
              double sum = c.bias ? bias[j] : 0;
              for (int64_t l = 0; l < k; ++l) sum += x[i * k + l] * w[j * k + l];
              expected[i * n + j] = sum;
            }
          }
          check_near(run_linear(backend, c), expected, tolerance(DType::kF32),
                     4 * std::sqrt(static_cast<double>(k)));
        }
      }
    }
  }
}

void check_stacked_sources(Backend& backend) {
  const int64_t k = 256;
  const std::vector<std::pair<DType, int64_t>> parts = {{DType::kQ4_1, 24},
                                                        {DType::kQ4_1, 9},
                                                        {DType::kQ6_K, 33},
                                                        {DType::kF32, 1},
                                                        {DType::kQ4_1, 70}};
  std::vector<FloatSource> sources;
  std::vector<const RowSource*> pointers;
  std::vector<float> weights;
  for (const auto& [dtype, rows] : parts) {
    sources.emplace_back(dtype, rows, k, random_normal(rows * k, weights.size()), rows % 2 == 0);
    const std::vector<float> values = as_weights(backend, dtype, sources.back().values());
    weights.insert(weights.end(), values.begin(), values.end());
  }
  for (const FloatSource& source : sources) pointers.push_back(&source);
  const auto w = must(backend.pack(pointers));
  const int64_t n = static_cast<int64_t>(weights.size()) / k;
  REQUIRE(w->rows() == n);
  REQUIRE(w->cols() == k);
  for (int64_t m : {1, 21}) {
    const std::vector<float> values = random_normal(m * k, 5);
    const std::vector<float> x = as_activations(backend, values);
    const DeviceTensor device_x = upload(backend, values, k);
    const DeviceTensor out = make_tensor(backend, m, n, DType::kF32);
    LinearParams p;
    p.x = device_x.view;
    p.w = w.get();
    p.out = out.view;
    backend.linear(p);
    std::vector<double> expected(m * n);
    for (int64_t i = 0; i < m * n; ++i) {
      for (int64_t l = 0; l < k; ++l) {
        expected[i] += static_cast<double>(x[i / n * k + l]) * weights[i % n * k + l];
      }
    }
    check_near(download(backend, out.view), expected, tolerance(DType::kF32), 64);
  }
}

void check_embedding(Backend& backend) {
  for (DType dtype : weight_dtypes()) {
    if (!backend.supports_weights(dtype)) continue;
    const int64_t vocab = 37, k = 256, positions = 11;
    const FloatSource table(dtype, vocab, k, random_normal(vocab * k, 3));
    const FloatSource position_table(DType::kF32, positions, k, random_normal(positions * k, 4));
    const auto w = pack_one(backend, table);
    const auto wp = pack_one(backend, position_table);
    Batch batch;
    batch.tokens = {36, 0, 17, 17, 5};
    batch.positions = {0, 1, 2, 9, 10};
    batch.query_start_loc = {0, 3, 5};
    batch.seq_lens = {3, 11};
    const StepPlan* plan = must(backend.prepare(batch, KvGeometry{}));
    for (bool with_positions : {false, true}) {
      const DeviceTensor out = make_activations(backend, 5, k);
      EmbedParams p;
      p.table = w.get();
      p.positions = with_positions ? wp.get() : nullptr;
      p.scale = with_positions ? 2.5F : 1.0F;
      p.out = out.view;
      backend.embed(*plan, p);
      const std::vector<float> rows = table.values(), position_rows = position_table.values();
      std::vector<double> expected;
      for (size_t m = 0; m < batch.tokens.size(); ++m) {
        for (int64_t i = 0; i < k; ++i) {
          double value = rows[batch.tokens[m] * k + i];
          if (with_positions) value += position_rows[batch.positions[m] * k + i];
          expected.push_back(value * p.scale);
        }
      }
      INFO(dtype_info(dtype).name);
      check_near(download(backend, out.view), expected, tolerance(backend.activation_dtype()), 16);
    }
  }
}

}  // namespace pelton::test
