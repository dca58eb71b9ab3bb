// The whole way from the engine to the card: answers do not depend on neighbours, graphs, overlap,
// preemption or prefix hits, and are the CPU's within the type of the activations.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"
#include "model/kv_budget.h"
#include "model/model_config.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/model/decoder_driver.h"
#include "tests/model/engine_runs.h"
#include "tests/model/tiny_models.h"
#include "tests/support/backend_cases.h"

namespace pelton::test {
namespace {

constexpr int kVocab = 200;
constexpr int kMaxLen = 96;
constexpr int kSeqs = 16;

LoadedModel load(std::string_view config, Backend& backend, int64_t kv_tokens) {
  LoadOptions options = tiny_options();
  options.max_model_len = kMaxLen;
  options.max_num_seqs = kSeqs;
  options.max_num_batched_tokens = 64;
  const ModelConfig parsed = *model_config_from_json(std::string(config));
  const KvGeometry geometry =
      *make_kv_geometry(parsed, backend.activation_dtype(), options.block_size);
  options.kv_cache_memory_bytes = kv_tokens * geometry.bytes_per_token();
  StatusOr<LoadedModel> model = load_tiny(config, backend, options);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *std::move(model);
}

struct Variant {
  int concurrency;
  bool graphs, overlap, prefix_cache;
  int64_t kv_tokens;
};

RunResult run(std::string_view config, const std::vector<TestRequest>& requests,
              const Variant& variant) {
  const CudaCard card;
  CudaOptions options = CudaCard::default_options();
  options.graphs = variant.graphs;
  const auto backend = card.backend(options);
  RunOptions limits;
  limits.concurrency = variant.concurrency;
  limits.max_num_seqs = kSeqs;
  limits.max_num_batched_tokens = 64;
  limits.prefix_cache = variant.prefix_cache;
  limits.async_scheduling = variant.overlap;
  return run_engine(load(config, *backend, variant.kv_tokens), requests, limits);
}

// What the sampler draws from these logits, at each position of the answer.
std::vector<TokenId> drawn(const TestRequest& request, std::span<const float> logits,
                           size_t answer) {
  std::vector<TokenId> out;
  for (size_t i = 0; i < answer; ++i) {
    SampleRow row;
    row.temperature = request.params.temperature;
    row.top_k = request.params.top_k;
    row.top_p = request.params.top_p;
    row.min_p = request.params.min_p;
    row.seed = request.params.seed;
    row.position = request.prompt.size() + i;
    out.push_back(
        reference_sample(logits.data() + (request.prompt.size() + i - 1) * kVocab, kVocab, row)
            .token);
  }
  return out;
}

constexpr double kTolerance = 8e-2;  // of the largest logit of a row, in bf16

// A greedy answer parts from the CPU's only where the two ids' logits lie within tolerance.
void check_parting(const TestRequest& request, const std::vector<TokenId>& cpu,
                   const std::vector<TokenId>& card, std::span<const float> logits) {
  if (cpu == card || request.params.temperature > 0) return;
  const auto at = std::mismatch(cpu.begin(), cpu.end(), card.begin(), card.end());
  if (at.first == cpu.end() || at.second == card.end()) return;  // one ended first
  const auto row = logits.subspan((at.first - cpu.begin() - 1) * kVocab, kVocab);
  float largest = 0;
  for (const float x : row) largest = std::max(largest, std::fabs(x));
  CHECK(row[*at.first] - row[*at.second] <= 2 * kTolerance * largest);
}

// Along the CPU's ids the card's logits are the CPU's within tolerance at every position, and each
// device's answer is what its own logits and the request's seed give: where two answers part, the
// logits lie that close.
void check_against_cpu(std::string_view config, const std::vector<TestRequest>& requests,
                       const RunResult& on_card) {
  auto cpu = *make_cpu_backend({.threads = 1, .isa = CpuIsa::kAuto, .pool = nullptr});
  RunOptions alone;
  alone.max_num_seqs = kSeqs;
  const RunResult on_cpu = run_engine(load(config, *cpu, kSeqs * kMaxLen), requests, alone);
  LoadedModel cpu_model = load(config, *cpu, kSeqs * kMaxLen);
  const CudaCard card;
  const auto cuda = card.backend();
  LoadedModel cuda_model = load(config, *cuda, kSeqs * kMaxLen);
  for (size_t i = 0; i < requests.size(); ++i) {
    INFO("request " << i);
    const auto whole = [&](const Answer& answer) {
      std::vector<TokenId> tokens = requests[i].prompt;
      tokens.insert(tokens.end(), answer.tokens.begin(), answer.tokens.end());
      return tokens;
    };
    const std::vector<TokenId> cpu_ids = whole(on_cpu.answers[i]);
    const std::vector<TokenId> card_ids = whole(on_card.answers[i]);
    const std::vector<float> expected = DecoderDriver(cpu_model, *cpu).run(cpu_ids, 64);
    const std::vector<float> forced = DecoderDriver(cuda_model, *cuda).run(cpu_ids, 64);
    CHECK(relative_error(forced, expected, kVocab) < kTolerance);
    CHECK(drawn(requests[i], expected, on_cpu.answers[i].tokens.size()) ==
          on_cpu.answers[i].tokens);
    check_parting(requests[i], cpu_ids, card_ids, expected);
    const std::vector<float> own =
        cpu_ids == card_ids ? forced : DecoderDriver(cuda_model, *cuda).run(card_ids, 64);
    CHECK(drawn(requests[i], own, on_card.answers[i].tokens.size()) == on_card.answers[i].tokens);
  }
}

void check_architecture(std::string_view name, int count) {
  INFO(name);
  const std::string_view config = tiny_config(name);
  const std::vector<TestRequest> requests = mixed_requests(count, kVocab, 50, 24, 11);
  const int64_t roomy = kSeqs * kMaxLen;
  const RunResult solo = run(config, requests, {1, false, false, false, roomy});
  for (const Variant& variant : {Variant{kSeqs, true, true, true, 160},
                                 {kSeqs, true, false, true, roomy},
                                 {kSeqs, false, true, false, 160},
                                 {kSeqs, true, true, false, roomy}}) {
    INFO("graphs " << variant.graphs << " overlap " << variant.overlap << " prefix cache "
                   << variant.prefix_cache << " KV tokens " << variant.kv_tokens);
    const RunResult crowd = run(config, requests, variant);
    for (size_t i = 0; i < requests.size(); ++i) {
      INFO("request " << i);
      CHECK(crowd.answers[i] == solo.answers[i]);  // tokens and log probabilities, to the bit
    }
    if (count >= 40) {
      CHECK((crowd.stats.preemptions > 0) == (variant.kv_tokens < roomy));
      CHECK((crowd.stats.prefix_cache_hits > 0) == variant.prefix_cache);
    }
    CHECK(crowd.load.used_blocks == 0);
  }
  check_against_cpu(config, requests, solo);
}

}  // namespace

TEST_CASE("fifty mixed requests answer alike in every mode and as the CPU does") {
  check_architecture("llama", 50);
}

TEST_CASE("requests to gemma3 answer alike in every mode and as the CPU does") {
  check_architecture("gemma3", 8);
}

TEST_CASE("fifty requests to every architecture answer as the CPU does", "[long]") {
  for (const char* name : {"mistral", "qwen2", "qwen3", "gemma3", "gpt2"}) {
    check_architecture(name, 50);
  }
}

}  // namespace pelton::test
