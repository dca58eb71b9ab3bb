#include "scheduler/request_check.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <span>

namespace pelton {
namespace {

// As many as a row of the sampler's answer may list, and strings and ids a request may stop at.
constexpr int kMaxLogprobs = 1000;
constexpr size_t kMaxStops = 1000;

Status check_ids(std::string_view field, std::span<const TokenId> ids, int vocab_size) {
  for (const TokenId id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    return invalid_field(field,
                         fmt::format("token id {} is not in the vocabulary of {}", id, vocab_size));
  }
  return absl::OkStatus();
}

// Written so that a NaN fails.
Status check_range(std::string_view field, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return invalid_field(field, fmt::format("{} is not in [{}, {}]", value, low, high));
}

// Before min_tokens none of them may be drawn: something must be left.
Status check_ban(const SamplingParams& params, int vocab_size, std::span<const TokenId> eos) {
  if (params.min_tokens == 0) return absl::OkStatus();
  std::set<TokenId> banned(params.stop_token_ids.begin(), params.stop_token_ids.end());
  for (const TokenId id : eos) {
    if (id >= 0 && id < vocab_size) banned.insert(id);
  }
  if (banned.size() < static_cast<size_t>(vocab_size)) return absl::OkStatus();
  return invalid_field("sampling.min_tokens", "every token would end the answer");
}

}  // namespace

Status check_request(const Request& request, int vocab_size, std::span<const TokenId> eos) {
  const SamplingParams& params = request.params;
  for (const PromptSpan& span : request.prompt) {
    PELTON_RETURN_IF_ERROR(check_ids("prompt", span.tokens, vocab_size));
  }
  PELTON_RETURN_IF_ERROR(check_range("sampling.temperature", params.temperature, 0, 1e6));
  PELTON_RETURN_IF_ERROR(check_range("sampling.top_k", params.top_k, 0, 1e9));
  PELTON_RETURN_IF_ERROR(check_range("sampling.top_p", params.top_p, 0, 1));
  PELTON_RETURN_IF_ERROR(check_range("sampling.min_p", params.min_p, 0, 1));
  PELTON_RETURN_IF_ERROR(check_range("sampling.max_tokens", params.max_tokens, 1, 1e9));
  PELTON_RETURN_IF_ERROR(
      check_range("sampling.min_tokens", params.min_tokens, 0, params.max_tokens));
  PELTON_RETURN_IF_ERROR(check_range("sampling.logprobs", params.logprobs, -1, kMaxLogprobs));
  PELTON_RETURN_IF_ERROR(
      check_range("sampling.prompt_logprobs", params.prompt_logprobs, -1, kMaxLogprobs));
  PELTON_RETURN_IF_ERROR(check_ids("sampling.stop_token_ids", params.stop_token_ids, vocab_size));
  if (params.stop_token_ids.size() > kMaxStops) {
    return invalid_field("sampling.stop_token_ids", "too many");
  }
  if (params.stop.size() > kMaxStops) return invalid_field("sampling.stop", "too many");
  return check_ban(params, vocab_size, eos);
}

}  // namespace pelton
