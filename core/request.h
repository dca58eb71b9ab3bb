// What a front end hands to the engine, and what comes back each step. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/sampling_params.h"
#include "core/status.h"

namespace pelton {

// A prompt is a list of spans: ids, or (later) an embedding span with its content hash.
struct PromptSpan {
  std::vector<TokenId> tokens;
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kAbort, kError };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "abort", "error"

struct Request {
  RequestId id;                    // from Engine::mint_request_id()
  std::vector<PromptSpan> prompt;  // >= 1 token in all, each within the vocabulary
  SamplingParams params;
  int priority = 0;    // lower runs first
  std::string tenant;  // salts the prefix cache; from the authenticated key, never from the body
  AdapterId adapter;   // 0: the base model
  TimePoint deadline = TimePoint::max();
  TimePoint arrival;  // when the front end took the request
  bool use_prefix_cache = true;
};

struct Usage {
  int prompt_tokens = 0;
  int cached_tokens = 0;      // of prompt_tokens, found in the prefix cache
  int completion_tokens = 0;  // what is billed: shown tokens, the ending stop token included
};

struct Timing {
  Duration queued{};   // arrival to first scheduled
  Duration prefill{};  // first scheduled to first token
  Duration decode{};   // first token to last token
};

// What one step did for one request. Tokens and text are deltas: their concatenation over all
// outputs of a request is its answer. Exactly one output of a request has a finish reason.
struct RequestOutput {
  RequestId id;
  std::vector<TokenId> tokens;
  std::string text;                        // valid UTF-8; empty where no detokeniser is attached
  std::vector<PositionLogprobs> logprobs;  // [tokens.size()] where asked for, else empty
  // [prompt tokens - 1] (the first token has none), once, with the first output, where asked for.
  std::vector<PositionLogprobs> prompt_logprobs;
  FinishReason finish_reason = FinishReason::kNone;
  std::string stop_string;            // the stop string that ended it, if one did
  std::optional<TokenId> stop_token;  // the stop token id that ended it, if one did
  Status status;                      // not OK with kError, and with kAbort by deadline
  Usage usage;                        // running totals
  Timing timing;                      // complete in the last output

  bool finished() const { return finish_reason != FinishReason::kNone; }
};

}  // namespace pelton
