// How a sequence's next tokens are chosen and when it ends; the fields that are built today, under
// vLLM's names. A plain value: bounds are checked once, in server/validate_sampling.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/ids.h"

namespace pelton {

struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy
  int top_k = 0;             // 0: off
  float top_p = 1.0F;        // 1: off
  float min_p = 0.0F;        // 0: off
  uint64_t seed = 0;         // the server mints one where the request names none
  int max_tokens = 16;       // >= 1 when it reaches the engine, and within the context
  // End-of-sequence and stop token ids are banned before this count, and stop strings are looked
  // for only in the text after it.
  int min_tokens = 0;
  std::vector<std::string> stop;        // strings that end the answer
  std::vector<TokenId> stop_token_ids;  // ids that end the answer (besides the model's own EOS)
  bool include_stop_str_in_output = false;
  bool ignore_eos = false;  // EOS may be produced and does not end the answer
  bool skip_special_tokens = true;
  int logprobs = -1;         // -1: none; 0: of the chosen token; n: and of the n likeliest
  int prompt_logprobs = -1;  // likewise, for each prompt token
};

// One token's log probability, from the model's raw distribution (before temperature and filters).
struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0F;
  int rank = 0;  // 1: the likeliest
};
struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // likeliest first
};

}  // namespace pelton
