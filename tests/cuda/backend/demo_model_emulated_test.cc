// The demo model on the emulated card with recorded steps, along the CPU's logits. Where it is
// absent this says so and passes.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"
#include "cuda/emulator/emulator.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/model/decoder_driver.h"
#include "tests/model/engine_runs.h"
#include "tests/model/tiny_models.h"
#include "tests/support/model_cache.h"

namespace pelton::test {
namespace {

constexpr double kTolerance = 2e-2;  // of a row's largest logit: 30 layers in bf16

LoadedModel load_demo(const std::string& path, Backend& backend) {
  LoadOptions options;
  options.path = path;
  options.max_model_len = 64;
  options.max_num_seqs = 2;  // so that steps of one and two sequences are recorded
  options.max_num_batched_tokens = 32;
  options.kv_cache_memory_bytes = 8 << 20;
  StatusOr<LoadedModel> model = load_model(options, backend);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *std::move(model);
}

std::vector<TestRequest> greedy_requests() {
  std::vector<TestRequest> requests(2);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = random_tokens(5 + 6 * static_cast<int>(i), 40000, 3 + i);
    requests[i].params.max_tokens = 4 + 2 * static_cast<int>(i);  // the last steps are of one
    requests[i].params.temperature = 0;
    requests[i].params.ignore_eos = true;
  }
  return requests;
}

}  // namespace

TEST_CASE("the demo model with recorded steps draws what the CPU's logits allow", "[long]") {
  const std::string path = smollm2_path();
  if (path.empty()) return;
  const CudaCard card;
  cuda::emulator::Card larger = cuda::emulator::card_named("sm_90");
  larger.memory_bytes = int64_t{1} << 30;
  cuda::emulator::reset(larger);
  const std::vector<TestRequest> requests = greedy_requests();
  const auto backend = card.backend();
  RunOptions options;
  options.concurrency = options.max_num_seqs = 2;
  options.max_num_batched_tokens = 32;
  options.async_scheduling = true;
  LoadedModel on_card = load_demo(path, *backend);
  REQUIRE(backend->recordable_steps() == std::vector<int>{2, 1});
  const RunResult run = run_engine(std::move(on_card), requests, options);

  const auto cpu = *make_cpu_backend({.threads = 1, .isa = CpuIsa::kAuto, .pool = nullptr});
  LoadedModel reference = load_demo(path, *cpu);
  const size_t vocab = static_cast<size_t>(reference.config.vocab_size);
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::vector<TokenId>& answer = run.answers[i].tokens;
    REQUIRE(answer.size() == static_cast<size_t>(requests[i].params.max_tokens));
    std::vector<TokenId> ids = requests[i].prompt;
    ids.insert(ids.end(), answer.begin(), answer.end());
    const std::vector<float> logits = DecoderDriver(reference, *cpu).run(ids, 32);
    for (size_t t = 0; t < answer.size(); ++t) {
      const float* row = logits.data() + (requests[i].prompt.size() + t - 1) * vocab;
      const float best = *std::max_element(row, row + vocab);
      float largest = 0;
      for (size_t v = 0; v < vocab; ++v) largest = std::max(largest, std::fabs(row[v]));
      INFO("request " << i << " token " << t);
      CHECK(best - row[answer[t]] <= 2 * kTolerance * largest);
    }
  }
}

}  // namespace pelton::test
