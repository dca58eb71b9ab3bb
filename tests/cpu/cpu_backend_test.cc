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
TEST_CASE("encoder attention agrees with float64") { on_every_isa(check_encoder_attention); }
TEST_CASE("KV blocks are copied and read and written whole") { on_every_isa(check_kv_blocks); }
TEST_CASE("norms agree with float64 in every fused form") { on_every_isa(check_norm); }
TEST_CASE("activations agree with float64") { on_every_isa(check_activation); }
TEST_CASE("routed experts agree with float64") { on_every_isa(check_experts); }
TEST_CASE("pooling agrees with float64") { on_every_isa(check_pooling); }
TEST_CASE("logit rows are gathered and capped") { on_every_isa(check_logit_rows); }
TEST_CASE("the sampler draws what a full sort would") { on_every_isa(check_sampler); }

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

}  // namespace pelton::test
