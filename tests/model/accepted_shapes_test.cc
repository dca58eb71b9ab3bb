// Whatever shape the config reader accepts, the model runs: no kernel meets a size it can not take.
#include <cmath>
#include <nlohmann/json.hpp>

#include "cpu/cpu_backend.h"
#include "tests/model/decoder_driver.h"
#include "tests/model/tiny_models.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

std::unique_ptr<Backend> cpu_backend(int threads) {
  CpuOptions options;
  options.threads = threads;
  return *make_cpu_backend(options);
}

std::string shaped_config(int heads, int kv_heads, int head_dim, int hidden) {
  nlohmann::json config = nlohmann::json::parse(tiny_config("llama"));
  config["num_hidden_layers"] = 1;
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = kv_heads;
  config["head_dim"] = head_dim;
  config["hidden_size"] = hidden;
  return config.dump();
}

}  // namespace

TEST_CASE("Every head size and group that loads also runs and gives finite logits") {
  const auto backend = cpu_backend(2);
  int ran = 0;
  for (const int head_dim : {2, 6, 16, 30, 100, 128, 256, 510, 512}) {
    for (const auto& [heads, kv_heads] : {std::pair(1, 1), {3, 1}, {6, 2}, {14, 2}, {16, 1}}) {
      INFO(head_dim << " x " << heads << " / " << kv_heads);
      auto model = load_tiny(shaped_config(heads, kv_heads, head_dim, 64), *backend);
      REQUIRE(model.status() == absl::OkStatus());
      for (const float logit : DecoderDriver(*model, *backend).run({1, 2, 3, 4, 5}, 2)) {
        REQUIRE(std::isfinite(logit));
      }
      ++ran;
    }
  }
  CHECK(ran == 45);
}

TEST_CASE("A head size beyond what attention takes is refused at load and named") {
  const auto backend = cpu_backend(1);
  const auto model = load_tiny(shaped_config(2, 2, 640, 1280), *backend);
  CHECK(model.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(error_field(model.status()) == "head_dim");
}

}  // namespace pelton
