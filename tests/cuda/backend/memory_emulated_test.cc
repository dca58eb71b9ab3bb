// What a card's memory is divided into: weights, the largest step, and KV blocks in all that is
// left; and what a card that is too small says.
#include "cuda/emulator/emulator.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/model/tiny_models.h"

namespace pelton::test {
namespace {

namespace emulator = cuda::emulator;

LoadOptions options_of(int batched_tokens) {
  LoadOptions load = tiny_options();
  load.max_num_seqs = 4;
  load.max_num_batched_tokens = batched_tokens;
  load.max_model_len = 64;
  load.kv_cache_memory_bytes = 0;  // all that is left
  return load;
}

struct Loaded {
  std::unique_ptr<Backend> backend;
  StatusOr<LoadedModel> model = absl::InternalError("not loaded");
};
// On a card of so many KiB, in one arena as on a real one.
Loaded load_on(int64_t kib, const LoadOptions& load) {
  emulator::Card small = emulator::card_named("sm_90");
  small.memory_bytes = kib << 10;
  emulator::reset(small);
  CudaOptions options;
  options.memory_utilization = 1;
  Loaded out;
  auto backend = make_cuda_backend(options);
  REQUIRE(backend.ok());
  out.backend = *std::move(backend);
  out.model = load_tiny(tiny_config("mistral"), *out.backend, load);
  return out;
}

}  // namespace

TEST_CASE("KV blocks take all that weights and the largest step leave") {
  const CudaCard card;
  for (const int64_t kib : {4 << 10, 16 << 10}) {
    const Loaded loaded = load_on(kib, options_of(64));
    INFO(loaded.model.status().ToString());
    REQUIRE(loaded.model.ok());
    const LoadFacts& facts = loaded.model->facts;
    CHECK(facts.weight_bytes + facts.activation_bytes + facts.kv_cache_bytes <= kib << 10);
    // Less than one block is left over, beside what rounding each piece up takes.
    const int64_t block = facts.kv_cache_bytes / facts.kv_cache_tokens * tiny_options().block_size;
    CHECK(loaded.backend->free_memory_bytes() < block + 16 * 256);
    CHECK(facts.kv_cache_tokens * 4 > kib);  // the larger card holds more
    CHECK(emulator::device_allocations_made() == 1);
  }
}

TEST_CASE("the largest steps run in what was set aside for them") {
  const CudaCard card;
  Loaded loaded = load_on(16 << 10, options_of(64));
  REQUIRE(loaded.model.ok());
  for (const int tokens : {64, 1}) {  // one chunk of 64, then four decoding sequences
    const int seqs = tokens == 64 ? 1 : 4;
    Batch batch;
    batch.query_start_loc = {0};
    GroupBatch group;
    group.max_blocks_per_seq = (64 + tiny_options().block_size - 1) / tiny_options().block_size;
    for (int s = 0; s < seqs; ++s) {
      for (int i = 0; i < tokens; ++i) {
        batch.tokens.push_back(3);
        batch.positions.push_back(64 - tokens + i);
        group.slot_mapping.push_back(64 * s + 64 - tokens + i);
      }
      batch.query_start_loc.push_back(static_cast<int>(batch.tokens.size()));
      batch.seq_lens.push_back(64);
      batch.logit_rows.push_back(static_cast<int>(batch.tokens.size()) - 1);
      for (int b = 0; b < group.max_blocks_per_seq; ++b) {
        group.block_tables.push_back(s * group.max_blocks_per_seq + b);
      }
    }
    batch.kv = {group};
    REQUIRE(loaded.model->runner->forward(batch).ok());
    std::vector<SampleRow> rows(static_cast<size_t>(seqs));
    for (int s = 0; s < seqs; ++s) rows[static_cast<size_t>(s)].logit_row = s;
    REQUIRE(loaded.model->runner->sample(rows).ok());
    CHECK(loaded.model->runner->collect().ok());
  }
  CHECK(emulator::device_allocations_made() == 1);
}

TEST_CASE("a card that is too small says what would fit") {
  const CudaCard card;
  const auto said = [](int64_t kib, const LoadOptions& load, std::string_view field) {
    const Loaded loaded = load_on(kib, load);
    REQUIRE_FALSE(loaded.model.ok());
    const Status& status = loaded.model.status();
    INFO(status.ToString());
    CHECK(error_field(status) == std::string(field));
    return std::string(status.message());
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    INFO(text << " / " << part);
    CHECK(text.find(part) != std::string::npos);
  };
  contains(said(64, options_of(64), "gpu_memory_utilization"), "the model's weights");
  const std::string step = said(2 << 10, options_of(4096), "max_num_batched_tokens");
  contains(step, "a step of 4096 tokens needs more than");
  contains(step, "tokens fit: lower --max-num-batched-tokens");
  // What it says fits does.
  const size_t at = step.find("steps of about ") + 15;
  const int fitting = std::atoi(step.c_str() + at);
  CHECK(fitting >= 16);
  LoadOptions less = options_of(std::max(16, fitting / 2));
  less.max_model_len = 0;
  CHECK(load_on(2 << 10, less).model.ok());
  LoadOptions kv = options_of(64);
  kv.kv_cache_memory_bytes = int64_t{1} << 30;
  contains(said(16 << 10, kv, "kv_cache_memory_bytes"), "a KV cache of 1024.0 MiB is more than");
}

}  // namespace pelton::test
