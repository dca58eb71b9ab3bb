#include "model/decoder_runner.h"

#include <algorithm>
#include <numeric>

#include "tests/model/decoder_driver.h"
#include "tests/model/test_backends.h"
#include "tests/model/tiny_models.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

constexpr int kVocab = 200;

// All tokens of one new sequence in one step, blocks 0, 1, 2 and on, the logits of `rows` wanted.
Batch whole_sequence(const ModelRunner& runner, const std::vector<TokenId>& tokens,
                     std::vector<int32_t> rows) {
  const int n = static_cast<int>(tokens.size());
  Batch batch;
  batch.tokens = tokens;
  batch.positions.resize(n);
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  batch.query_start_loc = {0, n};
  batch.seq_lens = {n};
  batch.logit_rows = std::move(rows);
  const KvGeometry& geometry = runner.kv_geometry();
  GroupBatch group;
  group.slot_mapping = batch.positions;
  group.max_blocks_per_seq = (n + geometry.block_size - 1) / geometry.block_size;
  group.block_tables.resize(group.max_blocks_per_seq);
  std::iota(group.block_tables.begin(), group.block_tables.end(), 0);
  batch.kv.assign(geometry.groups.size(), group);
  return batch;
}

SampleRow greedy(int logit_row) {
  SampleRow row;
  row.logit_row = logit_row;
  row.temperature = 0;
  row.logprobs = 1;
  return row;
}

TokenId argmax(const std::vector<float>& logits, int position) {
  const auto begin = logits.begin() + int64_t{position} * kVocab;
  return static_cast<TokenId>(std::max_element(begin, begin + kVocab) - begin);
}

}  // namespace

TEST_CASE("A step samples the rows it was asked for in their order") {
  for (const TestBackend& kind : test_backends()) {
    const std::unique_ptr<Backend> backend = kind.make();
    StatusOr<LoadedModel> model = load_tiny(tiny_config("llama"), *backend);
    REQUIRE(model.ok());
    const std::vector<TokenId> tokens = random_tokens(12, kVocab, 1);
    const std::vector<float> logits = DecoderDriver(*model, *backend).run(tokens, 12);
    ModelRunner& runner = *model->runner;
    REQUIRE(runner.forward(whole_sequence(runner, tokens, {3, 11})).ok());
    REQUIRE(runner.sample(std::vector<SampleRow>{greedy(1), greedy(0), greedy(1)}).ok());
    const auto sampled = runner.collect();
    REQUIRE(sampled.ok());
    REQUIRE(sampled->size() == 3);
    CHECK((*sampled)[0].token == argmax(logits, 11));
    CHECK((*sampled)[1].token == argmax(logits, 3));
    CHECK((*sampled)[2].token == argmax(logits, 11));
  }
}

TEST_CASE("More logit rows than are held at once give what each gives alone") {
  for (const TestBackend& kind : test_backends()) {
    const std::unique_ptr<Backend> backend = kind.make();
    StatusOr<LoadedModel> model = load_tiny(tiny_config("gemma3"), *backend);
    REQUIRE(model.ok());
    REQUIRE(model->runner->decoder().limits().max_logit_rows == 16);
    const std::vector<TokenId> tokens = random_tokens(50, kVocab, 2);
    const std::vector<float> logits = DecoderDriver(*model, *backend).run(tokens, 50);
    std::vector<int32_t> wanted(50);
    std::iota(wanted.begin(), wanted.end(), 0);
    std::vector<SampleRow> rows;
    for (int i = 49; i >= 0; --i) rows.push_back(greedy(i));  // in no order of ours
    ModelRunner& runner = *model->runner;
    for (int round = 0; round < 2; ++round) {
      REQUIRE(runner.forward(whole_sequence(runner, tokens, wanted)).ok());
      REQUIRE(runner.sample(rows).ok());
      const auto sampled = runner.collect();
      REQUIRE(sampled.ok());
      REQUIRE(sampled->size() == 50);
      for (int i = 0; i < 50; ++i) CHECK((*sampled)[i].token == argmax(logits, 49 - i));
    }
  }
}

TEST_CASE("A step without logit rows collects nothing") {
  for (const TestBackend& kind : test_backends()) {
    const std::unique_ptr<Backend> backend = kind.make();
    StatusOr<LoadedModel> model = load_tiny(tiny_config("qwen2"), *backend);
    REQUIRE(model.ok());
    ModelRunner& runner = *model->runner;
    REQUIRE(runner.forward(whole_sequence(runner, random_tokens(5, kVocab, 3), {})).ok());
    REQUIRE(runner.sample({}).ok());
    const auto sampled = runner.collect();
    REQUIRE(sampled.ok());
    CHECK(sampled->empty());
  }
}

TEST_CASE("The next forward may be enqueued before the last sample is collected") {
  for (const TestBackend& kind : test_backends()) {
    const std::unique_ptr<Backend> backend = kind.make();
    StatusOr<LoadedModel> model = load_tiny(tiny_config("qwen3"), *backend);
    REQUIRE(model.ok());
    ModelRunner& runner = *model->runner;
    const std::vector<TokenId> a = random_tokens(9, kVocab, 4);
    const std::vector<TokenId> b = random_tokens(30, kVocab, 5);
    const std::vector<float> logits_a = DecoderDriver(*model, *backend).run(a, 9);
    const std::vector<float> logits_b = DecoderDriver(*model, *backend).run(b, 30);
    std::vector<int32_t> all(30);
    std::iota(all.begin(), all.end(), 0);
    REQUIRE(runner.forward(whole_sequence(runner, a, {8})).ok());
    REQUIRE(runner.sample(std::vector<SampleRow>{greedy(0)}).ok());
    REQUIRE(runner.forward(whole_sequence(runner, b, all)).ok());
    const auto first = runner.collect();
    REQUIRE(runner.sample(std::vector<SampleRow>{greedy(29)}).ok());
    const auto second = runner.collect();
    REQUIRE((first.ok() && second.ok()));
    CHECK(first->at(0).token == argmax(logits_a, 8));
    CHECK(second->at(0).token == argmax(logits_b, 29));
  }
}

TEST_CASE("A drawn token goes into the next step before it is collected") {
  for (const TestBackend& kind : test_backends()) {
    for (const int wanted : {1, 40}) {  // 40: more logit rows than are held at once
      const std::unique_ptr<Backend> backend = kind.make();
      StatusOr<LoadedModel> model = load_tiny(tiny_config("llama"), *backend);
      REQUIRE(model.ok());
      ModelRunner& runner = *model->runner;
      std::vector<TokenId> tokens = random_tokens(40, kVocab, 6);
      const std::vector<float> logits = DecoderDriver(*model, *backend).run(tokens, 40);
      tokens.push_back(argmax(logits, 39));
      const std::vector<float> longer = DecoderDriver(*model, *backend).run(tokens, 41);

      std::vector<int32_t> logit_rows(wanted);
      std::iota(logit_rows.begin(), logit_rows.end(), 40 - wanted);
      tokens.pop_back();
      REQUIRE(runner.forward(whole_sequence(runner, tokens, logit_rows)).ok());
      const std::vector<SampleRow> rows(3, greedy(wanted - 1));
      REQUIRE(runner.sample(rows).ok());
      tokens.push_back(0);
      Batch next = whole_sequence(runner, tokens, {40});
      next.drawn = {{40, 2}};
      REQUIRE(runner.forward(next).ok());
      const auto first = runner.collect();
      REQUIRE(runner.sample(std::vector<SampleRow>{greedy(0)}).ok());
      const auto second = runner.collect();
      REQUIRE((first.ok() && second.ok()));
      CHECK(first->at(2).token == argmax(logits, 39));
      CHECK(second->at(0).token == argmax(longer, 40));
      // Once collected, the results are no more.
      CHECK_FALSE((runner.collect().ok() && runner.forward(next).ok()));
    }
  }
}

}  // namespace pelton
