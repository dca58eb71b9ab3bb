// The whole way from the engine to the card: answers do not depend on neighbours, graphs, overlap,
// preemption or prefix hits, and are the CPU's within the type of the activations.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>

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

constexpr int kMaxLen = 96;
constexpr int kSeqs = 16;

struct Subject {
  std::string config;  // config.json
  std::string path;    // of its file or folder; empty: dummy weights
  int vocab = 200;
  double tolerance = 8e-2;  // of the largest logit of a row, in bf16
};

// A model of tests/goldens/models, as a folder or as a file.
Subject golden_subject(const std::string& name, bool gguf) {
  const std::string folder = std::string(PELTON_GOLDENS "/models/") + name;
  std::ifstream config(folder + "/config.json");
  return {{std::istreambuf_iterator<char>(config), {}},
          folder + (gguf ? "/model.gguf" : ""),
          256,
          1e-1};
}

LoadedModel load(const Subject& subject, Backend& backend, int64_t kv_tokens) {
  LoadOptions options = tiny_options();
  options.max_model_len = kMaxLen;
  options.max_num_seqs = kSeqs;
  options.max_num_batched_tokens = 64;
  const ModelConfig parsed = *model_config_from_json(subject.config);
  const KvGeometry geometry =
      *make_kv_geometry(parsed, backend.activation_dtype(), options.block_size);
  options.kv_cache_memory_bytes = kv_tokens * geometry.bytes_per_token();
  if (!subject.path.empty()) {
    options.load_format = LoadFormat::kAuto;
    options.dummy_dtype.reset();
    options.path = subject.path;
  }
  StatusOr<LoadedModel> model = subject.path.empty() ? load_tiny(subject.config, backend, options)
                                                     : load_model(options, backend);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *std::move(model);
}

struct Variant {
  int concurrency;
  bool graphs, overlap, prefix_cache;
  int64_t kv_tokens;
};

RunResult run(const Subject& subject, const std::vector<TestRequest>& requests,
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
  return run_engine(load(subject, *backend, variant.kv_tokens), requests, limits);
}

// What the sampler draws from these logits, at each position of the answer.
std::vector<TokenId> drawn(const TestRequest& request, std::span<const float> logits, int vocab,
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
        reference_sample(logits.data() + (request.prompt.size() + i - 1) * vocab, vocab, row)
            .token);
  }
  return out;
}

// A greedy answer parts from the CPU's only where the two ids' logits lie within tolerance.
void check_parting(const Subject& subject, const TestRequest& request,
                   const std::vector<TokenId>& cpu, const std::vector<TokenId>& card,
                   std::span<const float> logits) {
  if (cpu == card || request.params.temperature > 0) return;
  const auto at = std::mismatch(cpu.begin(), cpu.end(), card.begin(), card.end());
  if (at.first == cpu.end() || at.second == card.end()) return;  // one ended first
  const auto row = logits.subspan((at.first - cpu.begin() - 1) * subject.vocab, subject.vocab);
  float largest = 0;
  for (const float x : row) largest = std::max(largest, std::fabs(x));
  CHECK(row[*at.first] - row[*at.second] <= 2 * subject.tolerance * largest);
}

// Along the CPU's ids the card's logits are the CPU's within tolerance at every position, and each
// device's answer is what its own logits and the request's seed give: where two answers part, the
// logits lie that close.
void check_against_cpu(const Subject& subject, const std::vector<TestRequest>& requests,
                       const RunResult& on_card) {
  auto cpu = *make_cpu_backend({.threads = 1, .isa = CpuIsa::kAuto, .pool = nullptr});
  RunOptions alone;
  alone.max_num_seqs = kSeqs;
  const RunResult on_cpu = run_engine(load(subject, *cpu, kSeqs * kMaxLen), requests, alone);
  LoadedModel cpu_model = load(subject, *cpu, kSeqs * kMaxLen);
  const CudaCard card;
  const auto cuda = card.backend();
  LoadedModel cuda_model = load(subject, *cuda, kSeqs * kMaxLen);
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
    CHECK(relative_error(forced, expected, subject.vocab) < subject.tolerance);
    CHECK(drawn(requests[i], expected, subject.vocab, on_cpu.answers[i].tokens.size()) ==
          on_cpu.answers[i].tokens);
    check_parting(subject, requests[i], cpu_ids, card_ids, expected);
    const std::vector<float> own =
        cpu_ids == card_ids ? forced : DecoderDriver(cuda_model, *cuda).run(card_ids, 64);
    CHECK(drawn(requests[i], own, subject.vocab, on_card.answers[i].tokens.size()) ==
          on_card.answers[i].tokens);
  }
}

const Variant kSolo = {1, false, false, false, kSeqs* kMaxLen};
const std::vector<Variant> kCrowds = {{kSeqs, true, true, true, 160},
                                      {kSeqs, true, false, true, kSeqs* kMaxLen},
                                      {kSeqs, false, true, false, 160},
                                      {kSeqs, true, true, false, kSeqs* kMaxLen}};

void check_subject(const Subject& subject, int count, const std::vector<Variant>& crowds) {
  const std::vector<TestRequest> requests = mixed_requests(count, subject.vocab, 50, 24, 11);
  const RunResult solo = run(subject, requests, kSolo);
  for (const Variant& variant : crowds) {
    INFO("graphs " << variant.graphs << " overlap " << variant.overlap << " prefix cache "
                   << variant.prefix_cache << " KV tokens " << variant.kv_tokens);
    const RunResult crowd = run(subject, requests, variant);
    for (size_t i = 0; i < requests.size(); ++i) {
      INFO("request " << i);
      CHECK(crowd.answers[i] == solo.answers[i]);  // tokens and log probabilities, to the bit
    }
    if (count >= 40) {
      CHECK((crowd.stats.preemptions > 0) == (variant.kv_tokens < kSolo.kv_tokens));
      CHECK((crowd.stats.prefix_cache_hits > 0) == variant.prefix_cache);
    }
    CHECK(crowd.load.used_blocks == 0);
  }
  check_against_cpu(subject, requests, solo);
}

void check_architecture(std::string_view name, int count) {
  INFO(name);
  check_subject({std::string(tiny_config(name)), ""}, count, kCrowds);
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

TEST_CASE("fifty requests to files of both formats answer as the CPU does", "[long]") {
  for (const char* name : {"llama", "mistral", "qwen2", "qwen3", "gemma3", "gpt2"}) {
    for (const bool gguf : {false, true}) {
      if (gguf && std::string_view(name) == "mistral") continue;  // its GGUF is a llama's
      INFO(name << (gguf ? ".gguf" : ""));
      check_subject(golden_subject(name, gguf), 50, {kCrowds[0], kCrowds[2]});
    }
  }
}

}  // namespace pelton::test
