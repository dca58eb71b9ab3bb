// An engine over the fake model, driven step by step, for the engine's tests.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "scheduler/engine.h"
#include "tests/support/catch.h"
#include "tests/support/collecting_sink.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_model_runner.h"

namespace pelton {

inline constexpr int kFakeVocab = 50;
inline constexpr TokenId kFakeEos = 7;

inline KvGeometry fake_geometry(int block_size, std::vector<int> windows) {
  KvGeometry geometry;
  geometry.block_size = block_size;
  for (const int window : windows) {
    geometry.groups.emplace_back();
    geometry.groups.back().window = window;
  }
  return geometry;
}

struct EngineSetup {
  EngineOptions options = default_options();
  KvGeometry geometry = fake_geometry(4, {0});
  std::vector<int> num_blocks{200};
  const TextStreamFactory* text = nullptr;

  static EngineOptions default_options() {
    EngineOptions options;
    options.max_model_len = 200;
    options.max_num_seqs = 32;
    options.max_num_batched_tokens = 64;
    options.eos_token_ids = {kFakeEos};
    options.check_integrity = true;
    options.async_scheduling = GENERATE(false, true);  // each test runs with both
    return options;
  }
};

struct EngineHarness {
  explicit EngineHarness(EngineSetup setup = {})
      : lag(setup.options.async_scheduling.value_or(false) ? 1 : 0) {
    auto made = std::make_unique<FakeModelRunner>(kFakeVocab, setup.geometry, setup.num_blocks);
    model = made.get();
    engine = std::make_unique<Engine>(setup.options, std::move(made), setup.text, &clock);
  }

  Request request(std::vector<TokenId> prompt, int max_tokens = 8) {
    Request request;
    request.id = engine->mint_request_id();
    request.prompt.push_back({std::move(prompt)});
    request.params.temperature = 0;
    request.params.max_tokens = max_tokens;
    request.params.ignore_eos = true;
    return request;
  }
  RequestId submit(Request request) {
    const RequestId id = request.id;
    const Status status = engine->submit(std::move(request), sink);
    if (!status.ok()) refused.push_back(status);
    return id;
  }
  void run() {
    while (engine->step()) {
    }
  }
  CollectingSink::Answer ask(Request request) {
    const RequestId id = submit(std::move(request));
    run();
    return sink->answer(id);
  }

  const int lag;  // steps by which a token comes later
  FakeClock clock;
  FakeModelRunner* model;
  std::unique_ptr<Engine> engine;
  std::shared_ptr<CollectingSink> sink = std::make_shared<CollectingSink>();
  std::vector<Status> refused;
};

// What the model answers by itself: no engine, no batch, no cache.
inline std::pair<std::vector<TokenId>, FinishReason> lone_answer(const FakeModelRunner& model,
                                                                 const Request& request,
                                                                 int max_total_tokens) {
  std::vector<TokenId> all;
  for (const PromptSpan& span : request.prompt) {
    all.insert(all.end(), span.tokens.begin(), span.tokens.end());
  }
  const SamplingParams& params = request.params;
  std::vector<TokenId> banned = params.stop_token_ids;
  banned.push_back(kFakeEos);
  std::vector<TokenId> answer;
  for (;;) {
    SampleRow row;
    row.temperature = params.temperature;
    row.seed = params.seed;
    if (static_cast<int>(answer.size()) < params.min_tokens) row.banned = banned;
    const TokenId token = model.truth(all, row);
    all.push_back(token);
    answer.push_back(token);
    const bool stop = (!params.ignore_eos && token == kFakeEos) ||
                      std::find(params.stop_token_ids.begin(), params.stop_token_ids.end(),
                                token) != params.stop_token_ids.end();
    if (stop && static_cast<int>(answer.size()) >= params.min_tokens) {
      return {answer, FinishReason::kStop};
    }
    if (static_cast<int>(answer.size()) == params.max_tokens ||
        static_cast<int>(all.size()) == max_total_tokens) {
      return {answer, FinishReason::kLength};
    }
  }
}

}  // namespace pelton
