// Drives an engine over a list of requests at a given concurrency, on the caller's thread; tests
// compare what the runs answered.
#pragma once

#include <memory>
#include <vector>

#include "model/load.h"
#include "scheduler/engine.h"

namespace pelton {

struct TestRequest {
  std::vector<TokenId> prompt;
  SamplingParams params;
};

// `count` requests of mixed lengths, every second greedy, the others seeded with filters; some
// share the start of their prompts, so that a prefix cache has something to find. Some stop at a
// string; to run_engine each token is a letter from a to d.
std::vector<TestRequest> mixed_requests(int count, int vocab, int max_prompt, int max_answer,
                                        uint32_t seed);

struct RunOptions {
  int concurrency = 1;
  int max_num_seqs = 32;
  int max_num_batched_tokens = 64;
  bool prefix_cache = false;
  bool async_scheduling = false;
};

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;         // of the tokens, where asked for
  std::vector<float> prompt_logprobs;  // of the prompt's tokens after the first, where asked for
  FinishReason finish_reason = FinishReason::kNone;
  bool operator==(const Answer&) const = default;
};
struct RunResult {
  std::vector<Answer> answers;  // [requests]
  int stop_strings = 0;         // answers that one of theirs ended
  EngineStats stats;
  Load load;  // when all had ended
};

// The model must have been loaded with limits that allow for `options`.
RunResult run_engine(LoadedModel model, const std::vector<TestRequest>& requests,
                     const RunOptions& options);

}  // namespace pelton
