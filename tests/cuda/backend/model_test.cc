// Tiny models on the card against the CPU backend in float32.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

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

namespace {

struct Golden {
  std::vector<TokenId> ids;
  std::vector<float> logits;  // [ids, vocab] by transformers in float32
  bool has_gguf = false;
};

Golden read_golden(const std::filesystem::path& folder) {
  const nlohmann::json json = nlohmann::json::parse(std::ifstream(folder / "golden.json"));
  Golden golden{json["ids"], {}, json["has_gguf"]};
  golden.logits.resize(golden.ids.size() * json["vocab_size"].get<size_t>());
  std::ifstream file(folder / "logits.bin", std::ios::binary);
  file.read(reinterpret_cast<char*>(golden.logits.data()),
            static_cast<std::streamsize>(golden.logits.size() * sizeof(float)));
  return golden;
}

void check_golden(const std::string& path, const Golden& golden, DType activations) {
  INFO(path << " " << dtype_info(activations).name);
  const CudaCard card;
  CudaOptions options = CudaCard::default_options();
  options.activations = activations;
  const auto backend = card.backend(options);
  LoadOptions load = tiny_options();
  load.load_format = LoadFormat::kAuto;
  load.dummy_dtype.reset();
  load.max_model_len = 96;
  load.path = path;
  StatusOr<LoadedModel> model = load_model(load, *backend);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  DecoderDriver driver(*model, *backend);
  const int vocab = model->config.vocab_size;
  const std::vector<float> whole = driver.run(golden.ids, 48);
  CHECK(relative_error(whole, golden.logits, vocab) < (activations == DType::kF16 ? 2e-2 : 1e-1));
  CHECK(driver.run(golden.ids, 1) == whole);
}

}  // namespace

TEST_CASE("files of every architecture in both formats give transformers' logits on the card") {
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(PELTON_GOLDENS "/models")) {
    if (!entry.is_directory()) continue;
    const Golden golden = read_golden(entry.path());
    for (const DType activations : {DType::kBF16, DType::kF16}) {
      check_golden(entry.path().string(), golden, activations);
      if (golden.has_gguf) {
        check_golden((entry.path() / "model.gguf").string(), golden, activations);
      }
    }
    ++models;
  }
  CHECK(models >= 11);
}

}  // namespace pelton::test
