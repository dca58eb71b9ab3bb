// Tiny models on the card against the CPU backend in float32.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/model/decoder_driver.h"
#include "tests/model/tiny_models.h"

namespace pelton::test {
namespace {

std::vector<float> cpu_logits(std::string_view config, const std::vector<TokenId>& tokens) {
  const auto backend = make_cpu_backend({.threads = 1, .isa = CpuIsa::kAuto, .pool = nullptr});
  REQUIRE(backend.ok());
  StatusOr<LoadedModel> model = load_tiny(config, **backend);
  REQUIRE(model.ok());
  return DecoderDriver(*model, **backend).run(tokens, static_cast<int>(tokens.size()));
}

}  // namespace

TEST_CASE("tiny models of every architecture give the CPU's logits within their type") {
  for (const TinyConfig& config : tiny_configs()) {
    const std::vector<TokenId> tokens = random_tokens(40, 200, 3);
    const std::vector<float> expected = cpu_logits(config.json, tokens);
    for (const DType activations : {DType::kBF16, DType::kF16}) {
      INFO(config.name << " " << dtype_info(activations).name);
      const CudaCard card;
      CudaOptions options = CudaCard::default_options();
      options.activations = activations;
      const auto backend = card.backend(options);
      StatusOr<LoadedModel> model = load_tiny(config.json, *backend);
      INFO(model.status().ToString());
      REQUIRE(model.ok());
      DecoderDriver driver(*model, *backend);
      const double tolerance = activations == DType::kF16 ? 8e-3 : 6e-2;
      const std::vector<float> whole = driver.run(tokens, 40);
      CHECK(relative_error(whole, expected, 200) < tolerance);
      for (const int chunk : {1, 7}) {
        INFO("chunks of " << chunk);
        CHECK(driver.run(tokens, chunk) == whole);  // to the bit: it is batch-invariant
      }
    }
  }
}

}  // namespace pelton::test
