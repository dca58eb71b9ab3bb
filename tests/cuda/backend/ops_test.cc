// The op tests that every backend has to pass, in bf16 and f16.
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/support/backend_cases.h"

namespace pelton::test {
namespace {

void on_card(void (*check)(Backend&), std::vector<DType> types = {DType::kBF16, DType::kF16}) {
  for (const DType activations : types) {
    const CudaCard card;
    CudaOptions options = CudaCard::default_options();
    options.activations = activations;
    INFO(dtype_info(activations).name);
    const auto backend = card.backend(options);
    check(*backend);
    CHECK(backend->synchronize().ToString() == "OK");
  }
}

}  // namespace

TEST_CASE("linear agrees with float64 in every format and shape") {
  on_card(check_linear);
}
TEST_CASE("sources of several formats stack into one matrix") {
  on_card(check_stacked_sources);
}
TEST_CASE("embedding rows are the dequantised rows") {
  on_card(check_embedding);
}
TEST_CASE("attention agrees with float64 over chunks and windows and block sizes") {
  on_card(check_attention);
}
TEST_CASE("encoder attention agrees with float64") {
  on_card(check_encoder_attention);
}
TEST_CASE("KV blocks are copied and read and written whole") {
  on_card(check_kv_blocks);
}
TEST_CASE("norms agree with float64 in every fused form") {
  on_card(check_norm);
}
TEST_CASE("activations agree with float64") {
  on_card(check_activation);
}
TEST_CASE("routed experts agree with float64") {
  on_card(check_experts);
}
TEST_CASE("pooling agrees with float64") {
  on_card(check_pooling);
}
TEST_CASE("logit rows are gathered and capped") {
  on_card(check_logit_rows);
}
TEST_CASE("the sampler draws what a full sort would") {
  on_card(check_sampler, {DType::kBF16});  // logits are float32 either way
}
TEST_CASE("a drawn token is embedded before it is collected") {
  on_card(check_drawn_tokens);
}

}  // namespace pelton::test
