#include "model/decoder.h"

#include <algorithm>
#include <random>
#include <span>

#include "tests/model/decoder_driver.h"
#include "tests/model/test_backends.h"
#include "tests/model/tiny_models.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

constexpr int kVocab = 200;

// Steps that compute each sequence in pieces of random length, several sequences a step.
StepList random_steps(std::span<const std::vector<TokenId>> sequences, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int> left;
  for (const auto& tokens : sequences) left.push_back(static_cast<int>(tokens.size()));
  StepList steps;
  while (std::any_of(left.begin(), left.end(), [](int n) { return n > 0; })) {
    steps.emplace_back();
    for (int s = 0; s < static_cast<int>(left.size()); ++s) {
      const int count = std::min<int>(left[s], static_cast<int>(random() % 12));
      if (count == 0) continue;
      steps.back().push_back({s, count});
      left[s] -= count;
    }
    if (steps.back().empty()) steps.pop_back();
  }
  return steps;
}

// Runs `body` for each backend and architecture.
template <typename Body>
void for_each_tiny_model(const Body& body) {
  for (const TestBackend& kind : test_backends()) {
    for (const TinyConfig& config : tiny_configs()) {
      INFO(kind.name << ", " << config.name);
      const std::unique_ptr<Backend> backend = kind.make();
      StatusOr<LoadedModel> model = load_tiny(config.json, *backend);
      INFO(model.status().ToString());
      REQUIRE(model.ok());
      body(*model, *backend);
    }
  }
}

}  // namespace

TEST_CASE("Logits are the same bits prefilled whole or in chunks or decoded one by one") {
  for_each_tiny_model([](LoadedModel& model, Backend& backend) {
    const std::vector<TokenId> tokens = random_tokens(45, kVocab, 1);
    DecoderDriver driver(model, backend);
    const std::vector<float> whole = driver.run(tokens, 45);
    for (const int chunk : {1, 3, 4, 16, 44}) {
      INFO("chunk " << chunk);
      CHECK(driver.run(tokens, chunk) == whole);
    }
  });
}

TEST_CASE("Logits do not depend on which blocks hold the KV") {
  for_each_tiny_model([](LoadedModel& model, Backend& backend) {
    const std::vector<TokenId> tokens = random_tokens(45, kVocab, 2);
    const std::vector<float> first = DecoderDriver(model, backend, 1).run(tokens, 11);
    CHECK(DecoderDriver(model, backend, 2).run(tokens, 11) == first);
  });
}

TEST_CASE("Sequences mixed in one batch give the bits of their solo runs") {
  for_each_tiny_model([](LoadedModel& model, Backend& backend) {
    std::vector<std::vector<TokenId>> sequences;
    for (const int length : {40, 1, 17, 33}) {
      sequences.push_back(random_tokens(length, kVocab, length));
    }
    DecoderDriver driver(model, backend);
    const auto mixed = driver.run(sequences, random_steps(sequences, 5));
    for (size_t s = 0; s < sequences.size(); ++s) {
      INFO("sequence " << s);
      CHECK(mixed[s] == driver.run(sequences[s], 100));
    }
  });
}

TEST_CASE("A window hides the tokens before it") {
  for (const TestBackend& kind : test_backends()) {
    const std::unique_ptr<Backend> backend = kind.make();
    StatusOr<LoadedModel> model = load_tiny(tiny_config("mistral"), *backend);  // 1 layer, window 8
    REQUIRE(model.ok());
    std::vector<TokenId> tokens = random_tokens(20, kVocab, 3);
    DecoderDriver driver(*model, *backend);
    const std::vector<float> before = driver.run(tokens, 20);
    tokens[5] = (tokens[5] + 1) % kVocab;
    const std::vector<float> after = driver.run(tokens, 20);
    for (int position = 0; position < 20; ++position) {
      INFO(kind.name << ", position " << position);
      const bool same =
          std::equal(before.begin() + position * kVocab, before.begin() + (position + 1) * kVocab,
                     after.begin() + position * kVocab);
      CHECK(same == (position < 5 || position > 12));
    }
  }
}

TEST_CASE("Blocks are copied before the step writes to the copy") {
  for_each_tiny_model([](LoadedModel& model, Backend& backend) {
    const std::vector<TokenId> tokens = random_tokens(7, kVocab, 4);
    const std::vector<float> expected = DecoderDriver(model, backend).run(tokens, 7);
    Decoder& decoder = model.runner->decoder();
    KvCache& cache = model.runner->cache();
    // Six tokens in blocks 0 and 1; block 1 is then copied to 2, which takes the seventh.
    Batch batch;
    batch.tokens.assign(tokens.begin(), tokens.begin() + 6);
    batch.positions = {0, 1, 2, 3, 4, 5};
    batch.query_start_loc = {0, 6};
    batch.seq_lens = {6};
    for (size_t g = 0; g < cache.geometry().groups.size(); ++g) {
      batch.kv.push_back({{0, 1, 2, 3, 4, 5}, {0, 1}, 2, {}});
    }
    REQUIRE(decoder.forward(batch, cache).ok());
    batch.tokens = {tokens[6]};
    batch.positions = {6};
    batch.query_start_loc = {0, 1};
    batch.seq_lens = {7};
    batch.logit_rows = {0};
    for (GroupBatch& group : batch.kv) {
      group = {{2 * 4 + 2}, {0, 2}, 2, {{BlockId(1), BlockId(2)}}};
    }
    REQUIRE(decoder.forward(batch, cache).ok());
    std::vector<float> logits(kVocab);
    REQUIRE(backend.download(decoder.logits(0, 1), std::as_writable_bytes(std::span(logits))).ok());
    CHECK(logits == std::vector<float>(expected.end() - kVocab, expected.end()));
  });
}

TEST_CASE("A slot of -1 leaves the cache alone") {
  const std::unique_ptr<Backend> backend = test_backends().back().make();
  StatusOr<LoadedModel> model = load_tiny(tiny_config("llama"), *backend);
  REQUIRE(model.ok());
  const std::vector<TokenId> tokens = random_tokens(8, kVocab, 6);
  Batch batch;
  batch.tokens = {tokens[0], tokens[1]};
  batch.positions = {0, 1};
  batch.query_start_loc = {0, 2};
  batch.seq_lens = {2};
  batch.logit_rows = {1};
  batch.kv.push_back({{0, 1}, {0}, 1, {}});
  Decoder& decoder = model->runner->decoder();
  REQUIRE(decoder.forward(batch, model->runner->cache()).ok());
  std::vector<float> first(kVocab);
  REQUIRE(backend->download(decoder.logits(0, 1), std::as_writable_bytes(std::span(first))).ok());
  // Other tokens at the same places, not written; then the second token again.
  batch.tokens = {tokens[2], tokens[3]};
  batch.kv[0].slot_mapping = {-1, -1};
  batch.logit_rows = {};
  REQUIRE(decoder.forward(batch, model->runner->cache()).ok());
  batch.tokens = {tokens[1]};
  batch.positions = {1};
  batch.query_start_loc = {0, 1};
  batch.logit_rows = {0};
  batch.kv[0].slot_mapping = {1};
  REQUIRE(decoder.forward(batch, model->runner->cache()).ok());
  std::vector<float> second(kVocab);
  REQUIRE(backend->download(decoder.logits(0, 1), std::as_writable_bytes(std::span(second))).ok());
  CHECK(first == second);
}

}  // namespace pelton
