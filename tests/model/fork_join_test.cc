// How often a layer makes the threads of the CPU backend meet.
#include <fmt/format.h>

#include "cpu/thread_pool.h"
#include "tests/model/decoder_driver.h"
#include "tests/model/test_backends.h"
#include "tests/model/tiny_models.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

// Large enough that threads share the work on a single token.
std::string config_of(int layers) {
  return fmt::format(
      R"({{"model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": {},
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "float32"}})",
      layers);
}

struct Step {
  const char* name;
  std::vector<StepPart> parts;
};

// Forks and joins of each step, with a model of that many layers.
std::vector<uint32_t> count_jobs(int layers, CpuActivations activations, DType weights,
                                 const std::vector<Step>& steps) {
  CpuOptions cpu;
  cpu.pool = make_cpu_pool(2);
  cpu.activations = activations;
  auto backend = make_cpu_backend(cpu);
  REQUIRE(backend.ok());
  LoadOptions options = tiny_options();
  options.dummy_dtype = weights;
  options.max_model_len = 640;
  options.max_num_batched_tokens = 640;
  options.max_num_seqs = 32;
  options.kv_cache_memory_bytes = int64_t{64} << 20;
  StatusOr<LoadedModel> model = load_tiny(config_of(layers), **backend, options);
  REQUIRE(model.ok());
  DecoderDriver driver(*model, **backend);
  std::vector<std::vector<TokenId>> sequences;
  for (int s = 0; s < 32; ++s) sequences.push_back(random_tokens(s == 0 ? 560 : 3, 200, s));
  std::vector<uint32_t> jobs;
  StepList so_far;
  uint32_t before = 0;
  // The driver starts anew each time: what a step adds to those before it.
  for (const Step& step : steps) {
    so_far.push_back(step.parts);
    const uint32_t at_start = cpu.pool->jobs();
    driver.run(sequences, so_far);
    const uint32_t all = cpu.pool->jobs() - at_start;
    jobs.push_back(all - before);
    before = all;
  }
  return jobs;
}

}  // namespace

TEST_CASE("a layer forks and joins at most four times in decode and prefill and mixed steps") {
  std::vector<Step> steps = {
      {"prefill", {{0, 550}}}, {"decode", {{0, 1}}}, {"few", {}}, {"many", {}}, {"mixed", {}}};
  for (int s = 1; s < 4; ++s) steps[2].parts.push_back({s, 1});
  for (int s = 0; s < 32; ++s) steps[3].parts.push_back({s, 1});
  for (int s = 0; s < 32; ++s) steps[4].parts.push_back({s, s == 0 ? 8 : 1});
  for (const auto& [activations, weights] : {std::pair{CpuActivations::kInt8, DType::kQ4_1},
                                             {CpuActivations::kInt8, DType::kBF16},
                                             {CpuActivations::kF32, DType::kQ4_1},
                                             {CpuActivations::kF32, DType::kF32}}) {
    const std::vector<uint32_t> small = count_jobs(2, activations, weights, steps);
    const std::vector<uint32_t> large = count_jobs(7, activations, weights, steps);
    for (size_t i = 0; i < steps.size(); ++i) {
      INFO(steps[i].name << ", " << dtype_info(weights).name << ", int8 "
                         << (activations == CpuActivations::kInt8));
      CHECK(large[i] - small[i] <= 5 * 4);
      CHECK(large[i] - small[i] >= 5);  // the threads did share the work
    }
  }
}

}  // namespace pelton
