#include "cpu/cpu_backend.h"

#include "tests/cpu/cpu_fixture.h"
#include "tests/support/backend_cases.h"

namespace pelton::test {

TEST_CASE("linear agrees with float64 in every format and shape") {
  on_every_isa(check_linear);
}
TEST_CASE("sources of several formats stack into one matrix") {
  on_every_isa(check_stacked_sources);
}
TEST_CASE("embedding rows are the dequantised rows") {
  on_every_isa(check_embedding);
}

TEST_CASE("attention agrees with float64 over chunks and windows and block sizes") {
  on_every_isa(check_attention);
}
TEST_CASE("encoder attention agrees with float64") {
  on_every_isa(check_encoder_attention);
}
TEST_CASE("KV blocks are copied and read and written whole") {
  on_every_isa(check_kv_blocks);
}
TEST_CASE("norms agree with float64 in every fused form") {
  on_every_isa(check_norm);
}
TEST_CASE("activations agree with float64") {
  on_every_isa(check_activation);
}
TEST_CASE("routed experts agree with float64") {
  on_every_isa(check_experts);
}
TEST_CASE("pooling agrees with float64") {
  on_every_isa(check_pooling);
}
TEST_CASE("logit rows are gathered and capped") {
  on_every_isa(check_logit_rows);
}
TEST_CASE("the sampler draws what a full sort would") {
  on_every_isa(check_sampler);
}
TEST_CASE("a drawn token is embedded before it is collected") {
  on_every_isa(check_drawn_tokens);
}

TEST_CASE("linear is one chain of fused multiply-adds over k on every instruction set") {
  for (CpuIsa isa : cpu_isas()) {
    const auto backend = cpu_backend(isa, 2);
    for (DType dtype : weight_dtypes()) {
      for (int64_t m : {1, 3, 40}) {
        const LinearCase c = {dtype, m, 41, 1280, m == 3, 9};
        const std::vector<float> x = linear_x(c), w = linear_weights(c), bias = linear_bias(c);
        std::vector<float> expected(c.m * c.n);
        for (int64_t i = 0; i < c.m * c.n; ++i) {
          float sum = 0;
          for (int64_t k = 0; k < c.k; ++k) {
            sum = std::fma(w[i % c.n * c.k + k], x[i / c.n * c.k + k], sum);
          }
          expected[i] = c.bias ? sum + bias[i % c.n] : sum;
        }
        INFO(backend->description() << ", " << dtype_info(dtype).name << ", m " << m);
        REQUIRE(same_bits(run_linear(*backend, c), expected));
      }
    }
  }
}

TEST_CASE("a row of linear has the same bits in every batch and with any number of threads") {
  const auto one = cpu_backend(CpuIsa::kAuto, 1);
  const auto many = cpu_backend(CpuIsa::kAuto, 5);
  for (DType dtype : weight_dtypes()) {
    const int64_t n = 200, k = 512;
    const std::vector<float> big = run_linear(*one, {dtype, 64, n, k, true, 4});
    REQUIRE(same_bits(run_linear(*many, {dtype, 64, n, k, true, 4}), big));
    for (int64_t m : {1, 2, 3, 4, 5, 8, 12, 13, 31, 63}) {
      const std::vector<float> rows(big.begin(), big.begin() + m * n);
      INFO(dtype_info(dtype).name << ", m " << m);
      REQUIRE(same_bits(run_linear(*many, {dtype, m, n, k, true, 4}), rows));
    }
  }
}

// Fits every instruction set's odd sizes: rows that do not fill a tile, heads of 20, blocks of 5.
static std::vector<AttentionCase> bit_cases() {
  AttentionCase odd;
  odd.num_q_heads = 9;
  odd.num_kv_heads = 3;
  odd.head_dim = 20;
  odd.block_size = 5;
  odd.lens = {300, 7};
  odd.sinks = true;
  AttentionCase demo = odd;
  demo.head_dim = 64;
  demo.block_size = 32;
  demo.kv_dtype = DType::kBF16;
  demo.window = 150;
  demo.sinks = false;
  demo.softcap = 5;
  demo.qk_norm = true;
  AttentionCase coded = demo;
  coded.kv_dtype = DType::kI8;
  coded.window = 0;
  coded.softcap = 0;
  coded.lens = {700, 129};
  AttentionCase coded_odd = odd;
  coded_odd.kv_dtype = DType::kI8;
  return {odd, demo, coded, coded_odd};
}

TEST_CASE(
    "attention has the same bits whatever the chunks and threads and instruction set and blocks") {
  for (const AttentionCase& c : bit_cases()) {
    const std::vector<float> expected = run_attention(*cpu_backend(CpuIsa::kScalar, 1), c);
    for (CpuIsa isa : cpu_isas()) {
      for (int threads : {1, 2, 5}) {
        const auto backend = cpu_backend(isa, threads);
        INFO(backend->description());
        for (int chunk : {0, 1, 64, 299}) {
          // Slow: the scalar kernels, and a step a token of a long sequence.
          if (chunk == 1 && (isa == CpuIsa::kScalar || c.lens[0] > 300)) continue;
          AttentionCase other = c;
          other.chunk = chunk;
          other.table_seed = chunk + 1;
          REQUIRE(same_bits(run_attention(*backend, other), expected));
        }
      }
    }
  }
}

TEST_CASE("a NaN in a key or value reaches what reads it from an int8 cache and nothing else") {
  AttentionCase c;
  c.kv_dtype = DType::kI8;
  c.lens = {40};
  c.poisoned_token = 20;
  for (CpuIsa isa : cpu_isas()) {
    const std::vector<float> out = run_attention(*cpu_backend(isa, 1), c);
    const int64_t cols = static_cast<int64_t>(c.num_q_heads) * c.head_dim;
    for (int64_t i = 0; i < 20 * cols; ++i) REQUIRE(std::isfinite(out[i]));
    for (int64_t i = 20 * cols; i < 40 * cols; ++i) REQUIRE(std::isnan(out[i]));
  }
}

TEST_CASE("a sequence of attention has the same bits alone and in company") {
  const auto backend = cpu_backend(CpuIsa::kAuto, 2);
  for (AttentionCase c : bit_cases()) {
    const std::vector<float> both = run_attention(*backend, c);
    c.lens.resize(1);
    const std::vector<float> alone = run_attention(*backend, c);
    REQUIRE(same_bits(alone, {both.begin(), both.begin() + alone.size()}));
  }
}

TEST_CASE("row ops have the same bits on every instruction set") {
  const int64_t m = 5, n = 1003;
  const std::vector<float> values = random_normal(m * n, 3, 4.0F);
  std::vector<std::vector<float>> expected;
  for (CpuIsa isa : cpu_isas()) {
    const auto backend = cpu_backend(isa, 2);
    INFO(backend->description());
    std::vector<std::vector<float>> got;
    const DeviceTensor weights = upload_f32(*backend, random_normal(2 * n, 4));
    for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
      const DeviceTensor x = upload(*backend, values, n);
      NormParams p;
      p.kind = kind;
      p.x = x.view;
      p.pre = {static_cast<const float*>(weights.view.data),
               static_cast<const float*>(weights.view.data) + n};
      p.out = x.view;
      backend->norm(p);
      got.push_back(download(*backend, x.view));
    }
    for (Activation kind : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
      const DeviceTensor x = upload(*backend, values, n);
      ActivationParams p;
      p.kind = kind;
      p.gated = false;
      p.x = x.view;
      p.out = x.view;
      backend->activation(p);
      got.push_back(download(*backend, x.view));
    }
    const DeviceTensor x = upload(*backend, values, n);
    backend->softcap(x.view, 3.0F);
    got.push_back(download(*backend, x.view));
    if (expected.empty()) expected = got;
    for (size_t i = 0; i < got.size(); ++i) REQUIRE(same_bits(got[i], expected[i]));
  }
}

TEST_CASE("a NaN in an activation reaches the logits") {
  for (CpuIsa isa : cpu_isas()) {
    const auto backend = cpu_backend(isa, 1);
    for (int64_t m : {1, 20}) {
      std::vector<float> values(m * 64, 1.0F);
      values[63] = std::nanf("");
      const DeviceTensor x = upload(*backend, values, 64);
      for (Activation kind : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
        const DeviceTensor y = make_activations(*backend, m, 64);
        ActivationParams p;
        p.kind = kind;
        p.gated = false;
        p.x = x.view;
        p.out = y.view;
        backend->activation(p);
        REQUIRE(std::isnan(download(*backend, y.view)[63]));
      }
      const FloatSource source(DType::kQ4_1, 40, 64, random_normal(40 * 64, 1));
      const auto w = pack_one(*backend, source);
      const DeviceTensor out = make_tensor(*backend, m, 40, DType::kF32);
      LinearParams p;
      p.x = x.view;
      p.w = w.get();
      p.out = out.view;
      backend->linear(p);
      const std::vector<float> y = download(*backend, out.view);
      for (int64_t i = 0; i < 40; ++i) REQUIRE(std::isnan(y[i]));
      for (int64_t i = 40; i < m * 40; ++i) REQUIRE(std::isfinite(y[i]));
    }
  }
}

TEST_CASE("drawn tokens follow the softmax") {
  const auto backend = cpu_backend(CpuIsa::kAuto, 2);
  const int vocab = 40, draws = 40000;
  const std::vector<float> logits = random_normal(vocab, 77, 1.5F);
  const DeviceTensor device = upload_as(*backend, logits, vocab, DType::kF32);
  std::vector<SampleRow> rows(draws);
  for (int i = 0; i < draws; ++i) {
    rows[i].temperature = 0.8F;
    rows[i].seed = 5 + i / 2000;
    rows[i].position = i % 2000;
  }
  must_ok(backend->sample(device.view, rows));
  std::vector<int> counts(vocab);
  for (const SampledToken& token : must(backend->collect())) ++counts[token.token];
  double sum = 0, chi_square = 0;
  for (float l : logits) sum += std::exp(l / 0.8);
  for (int id = 0; id < vocab; ++id) {
    const double expected = draws * std::exp(logits[id] / 0.8) / sum;
    chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
  }
  REQUIRE(chi_square < 80.1);  // 39 degrees of freedom: 1 in 10,000 above
}

TEST_CASE("wrong options and formats are typed errors") {
  CpuOptions options;
  options.threads = -1;
  REQUIRE(absl::IsInvalidArgument(make_cpu_backend(options).status()));
  REQUIRE(absl::IsInvalidArgument(cpu_isa_from_name("sse").status()));
  REQUIRE(must(cpu_isa_from_name("avx2")) == CpuIsa::kAvx2);
  const auto backend = cpu_backend(CpuIsa::kAuto, 1);
  REQUIRE(!backend->supports_weights(DType::kF8E4M3));
  REQUIRE(!backend->supports_kv(DType::kF8E4M3));
  KvGeometry geometry;
  geometry.groups.resize(1);
  geometry.groups[0].dtype = DType::kF8E4M3;
  REQUIRE(absl::IsUnimplemented(backend->allocate_kv(geometry, std::vector<int>{1}).status()));
  geometry.groups[0] = {{0}, 8, 128, DType::kF32, 0};
  const std::vector<int> absurd = {2000000000};
  REQUIRE(!backend->allocate_kv(geometry, absurd).ok());
  REQUIRE(absl::IsResourceExhausted(backend->allocate(int64_t{1} << 60).status()));
}

}  // namespace pelton::test
