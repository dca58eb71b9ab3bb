// A request's answer depends on the request alone: the whole way from the engine to the device.
#include <fstream>
#include <functional>
#include <optional>

#include "tests/model/engine_runs.h"
#include "tests/model/test_backends.h"
#include "tests/model/tiny_models.h"
#include "tests/support/catch.h"
#include "tests/support/model_cache.h"
#include "tests/support/temp_dir.h"

namespace pelton {
namespace {

// With a KV cache of that many tokens.
LoadedModel load_with_kv(LoadOptions options, Backend& backend, int64_t kv_tokens) {
  StatusOr<LoadedModel> model = load_model(options, backend);
  REQUIRE(model.ok());
  options.kv_cache_memory_bytes = kv_tokens * model->runner->kv_geometry().bytes_per_token();
  model = load_model(options, backend);
  REQUIRE(model.ok());
  return *std::move(model);
}

// Which requests of `run` differ from the solo answers.
std::vector<size_t> differing(const RunResult& run, const RunResult& solo) {
  std::vector<size_t> out;
  for (size_t i = 0; i < solo.answers.size(); ++i) {
    if (!(run.answers[i] == solo.answers[i])) out.push_back(i);
  }
  return out;
}

// Loads afresh with a KV cache of that many tokens.
using Loader = std::function<LoadedModel(Backend&, int64_t kv_tokens)>;
struct CacheSizes {
  int64_t roomy = 0;  // tokens; nothing is ever preempted
  int64_t tight = 0;
  bool crowded = true;  // enough requests that the tight one preempts and prefixes are found
};

void check_equivalence(const Loader& load, const CacheSizes& cache,
                       const std::vector<TestRequest>& requests, const RunOptions& limits,
                       CpuActivations activations) {
  RunOptions alone = limits;
  alone.concurrency = 1;
  const std::vector<TestBackend> backends = reference_backends(activations);
  const std::unique_ptr<Backend> first = backends.front().make();
  const RunResult solo = run_engine(load(*first, cache.roomy), requests, alone);
  if (cache.crowded) CHECK(solo.stop_strings > 0);
  for (const TestBackend& kind : backends) {
    for (const bool prefix_cache : {false, true}) {
      for (const int64_t kv_tokens : {cache.roomy, cache.tight}) {
        const std::unique_ptr<Backend> backend = kind.make();
        RunOptions options = limits;
        options.concurrency = 32;
        options.prefix_cache = prefix_cache;
        options.async_scheduling = prefix_cache == (kv_tokens == cache.tight);
        INFO(kind.name << ", prefix cache " << prefix_cache << ", KV tokens " << kv_tokens
                       << ", overlap " << options.async_scheduling);
        const RunResult run = run_engine(load(*backend, kv_tokens), requests, options);
        CHECK(differing(run, solo) == std::vector<size_t>{});
        if (cache.crowded) {
          CHECK((run.stats.preemptions > 0) == (kv_tokens == cache.tight));
          CHECK((run.stats.prefix_cache_hits > 0) == prefix_cache);
        }
        CHECK(run.load.used_blocks == 0);
      }
    }
  }
}

void check_tiny(std::string_view architecture, int num_requests,
                CpuActivations activations = CpuActivations::kF32,
                std::optional<DType> kv_dtype = std::nullopt) {
  INFO(architecture);
  const TempDir folder;
  std::ofstream(folder.path() / "config.json") << tiny_config(architecture);
  LoadOptions options = tiny_options();
  options.path = folder.path().string();
  options.max_model_len = 96;
  options.max_num_seqs = 32;
  options.kv_cache_dtype = kv_dtype;
  const auto load = [&](Backend& backend, int64_t kv_tokens) {
    return load_with_kv(options, backend, kv_tokens);
  };
  check_equivalence(load, {.roomy = 32 * 96, .tight = 160, .crowded = true},
                    mixed_requests(num_requests, 200, 60, 30, 11),
                    {.max_num_seqs = 32, .max_num_batched_tokens = 64}, activations);
}

void check_smollm2(int num_requests, int max_prompt, int max_answer, const CacheSizes& cache,
                   CpuActivations activations = CpuActivations::kF32) {
  LoadOptions options;
  options.path = smollm2_path();
  if (options.path.empty()) return;
  options.max_model_len = max_prompt + max_answer;
  options.max_num_seqs = 32;
  options.max_num_batched_tokens = 128;
  options.block_size = 8;
  const auto load = [&](Backend& backend, int64_t kv_tokens) {
    return load_with_kv(options, backend, kv_tokens);
  };
  check_equivalence(load, cache, mixed_requests(num_requests, 49152, max_prompt, max_answer, 12),
                    {.max_num_seqs = 32, .max_num_batched_tokens = 128}, activations);
}

}  // namespace

TEST_CASE("Two hundred tiny requests at concurrency 32 answer as each does alone") {
  check_tiny("llama", 200);
}

TEST_CASE("Requests to every architecture answer in a crowd as each does alone") {
  for (const char* architecture : {"gemma3", "gpt2", "mistral", "qwen3"}) {
    check_tiny(architecture, 40);
  }
}

TEST_CASE("Requests answer in a crowd as each does alone over a KV cache of 16 bits") {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    INFO(dtype_info(dtype).name);
    check_tiny("llama", 40, CpuActivations::kF32, dtype);
  }
}

TEST_CASE("Requests to the demo model answer in a crowd as each does alone") {
  check_smollm2(8, 40, 16, {.roomy = 8 * 56, .tight = 64, .crowded = false});
}

TEST_CASE("With activations of 8 bits requests answer in a crowd as each does alone") {
  check_tiny("llama", 40, CpuActivations::kInt8);
  check_smollm2(8, 40, 16, {.roomy = 8 * 56, .tight = 64, .crowded = false}, CpuActivations::kInt8);
}

TEST_CASE("Two hundred requests to the demo model answer as each does alone", "[long]") {
  check_smollm2(200, 60, 24, {.roomy = 32 * 88, .tight = 240, .crowded = true});
}

}  // namespace pelton
