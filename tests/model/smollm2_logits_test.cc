// The demo model's own GGUF: against transformers in float32 on the dequantised weights, and
// against llama.cpp, which rounds activations to 8 bits (tests/goldens/README.md, smollm2).
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>

#include "tests/model/decoder_driver.h"
#include "tests/model/test_backends.h"
#include "tests/support/catch.h"
#include "tests/support/model_cache.h"

namespace pelton {
namespace {

constexpr const char* kGoldens = PELTON_GOLDENS "/smollm2/";

struct SmolLm2 {
  std::unique_ptr<Backend> backend;
  LoadedModel model;
};

// Null, with a warning, where the model is absent.
std::unique_ptr<SmolLm2> load_smollm2(const TestBackend& backend = reference_backends().back()) {
  LoadOptions options;
  options.path = smollm2_path();
  if (options.path.empty()) return nullptr;
  options.max_model_len = 2048;
  options.max_num_batched_tokens = 256;
  auto out = std::make_unique<SmolLm2>();
  out->backend = backend.make();
  StatusOr<LoadedModel> model = load_model(options, *out->backend);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  out->model = *std::move(model);
  return out;
}

nlohmann::json read_json(const std::string& name) {
  return nlohmann::json::parse(std::ifstream(kGoldens + name));
}

double logprob(std::span<const float> logits, TokenId token) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  return logits[token] - top - std::log(sum);
}

}  // namespace

TEST_CASE("The demo model's logits are those of its dequantised weights in float32") {
  const std::unique_ptr<SmolLm2> loaded = load_smollm2();
  if (loaded == nullptr) return;
  const nlohmann::json golden = read_json("text.json");
  const std::vector<TokenId> ids = golden["ids"];
  const size_t vocab = golden["vocab_size"];
  const std::vector<float> logits = DecoderDriver(loaded->model, *loaded->backend).run(ids, 100);
  const auto row = [&](size_t position) {
    return std::span(logits).subspan(position * vocab, vocab);
  };

  std::ifstream file(std::string(kGoldens) + "logits.bin", std::ios::binary);
  std::vector<float> reference(vocab);
  for (const size_t position : golden["logit_positions"]) {
    REQUIRE(file.read(reinterpret_cast<char*>(reference.data()),
                      static_cast<std::streamsize>(vocab * sizeof(float))));
    INFO("position " << position);
    CHECK(relative_error(row(position), reference, static_cast<int>(vocab)) < 2e-4);
  }

  double sum = 0;
  double worst = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const double ours = logprob(row(i), ids[i + 1]);
    sum += ours;
    worst = std::max(worst, std::abs(ours - golden["logprobs"][i].get<double>()));
  }
  CHECK(worst < 2e-3);
  const double perplexity = std::exp(-sum / static_cast<double>(ids.size() - 1));
  const double llama_cpp = golden["perplexity_llama_cpp"];
  INFO("perplexity " << perplexity << ", llama.cpp " << llama_cpp << ", transformers "
                     << golden["perplexity_transformers"] << ", worst log probability off by "
                     << worst);
  CHECK(perplexity == Approx(golden["perplexity_transformers"].get<double>()).epsilon(1e-4));
  CHECK(std::abs(perplexity / llama_cpp - 1) < 0.005);
}

TEST_CASE("Activations of 8 bits keep the demo model's perplexity within half a percent") {
  const std::unique_ptr<SmolLm2> loaded =
      load_smollm2(reference_backends(CpuActivations::kInt8).back());
  if (loaded == nullptr) return;
  const nlohmann::json golden = read_json("text.json");
  const std::vector<TokenId> ids = golden["ids"];
  const size_t vocab = golden["vocab_size"];
  const std::vector<float> logits = DecoderDriver(loaded->model, *loaded->backend).run(ids, 100);
  double sum = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    sum += logprob(std::span(logits).subspan(i * vocab, vocab), ids[i + 1]);
  }
  const double perplexity = std::exp(-sum / static_cast<double>(ids.size() - 1));
  const double exact = golden["perplexity_transformers"];
  INFO("perplexity " << perplexity << " against " << exact);
  CHECK(std::abs(perplexity / exact - 1) < 0.005);
  CHECK(perplexity != Approx(exact).epsilon(1e-6));  // they were rounded at all
  // Token by token: the same bits as in chunks.
  const std::vector<TokenId> start(ids.begin(), ids.begin() + 40);
  const std::vector<float> one = DecoderDriver(loaded->model, *loaded->backend).run(start, 1);
  CHECK(std::equal(one.begin(), one.end(), logits.begin()));
}

TEST_CASE("The demo model agrees with the greedy choices of llama.cpp") {
  const std::unique_ptr<SmolLm2> loaded = load_smollm2();
  if (loaded == nullptr) return;
  DecoderDriver driver(loaded->model, *loaded->backend);
  const size_t vocab = loaded->model.config.vocab_size;
  int positions = 0;
  int parted = 0;
  int parted_clearly = 0;  // where the reference's two best lie over 0.6 apart
  for (const nlohmann::json& record : read_json("greedy.json")) {
    std::vector<TokenId> tokens = record["prompt"];
    const size_t prompt = tokens.size();
    const std::vector<TokenId> answer = record["tokens"];
    tokens.insert(tokens.end(), answer.begin(), answer.end());
    const std::vector<float> logits = driver.run(tokens, 64);
    const nlohmann::json& top = record["top"];  // of the tokens that have probabilities
    for (size_t i = 0; i < top.size(); ++i) {
      const auto row = logits.begin() + static_cast<int64_t>((prompt + i - 1) * vocab);
      ++positions;
      if (std::max_element(row, row + vocab) - row == answer[i]) continue;
      ++parted;
      if (top[i][0][1].get<double>() - top[i][1][1].get<double>() > 0.6) ++parted_clearly;
    }
  }
  INFO(parted << " of " << positions << " part, " << parted_clearly << " clearly");
  CHECK(positions > 300);
  CHECK(parted <= 0.05 * positions);
  CHECK(parted_clearly <= 0.005 * positions);
}

}  // namespace pelton
