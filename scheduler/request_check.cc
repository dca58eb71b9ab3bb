#include "scheduler/request_check.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <span>

#include "core/sampling_limits.h"

namespace pelton {
namespace {

using namespace sampling_limits;  // NOLINT: this file checks them

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

Status check_stops(std::span<const std::string> stops) {
  if (stops.size() > kMaxStops) return invalid_field("sampling.stop", "too many");
  for (const std::string& stop : stops) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return invalid_field("sampling.stop", "a string is empty or too long");
    }
  }
  return absl::OkStatus();
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
  PELTON_RETURN_IF_ERROR(
      check_range("sampling.temperature", params.temperature, 0, kMaxTemperature));
  PELTON_RETURN_IF_ERROR(check_range("sampling.top_k", params.top_k, 0, kMaxCount));
  PELTON_RETURN_IF_ERROR(check_range("sampling.top_p", params.top_p, 0, 1));
  if (params.top_p == 0) return invalid_field("sampling.top_p", "0 would keep no token");
  PELTON_RETURN_IF_ERROR(check_range("sampling.min_p", params.min_p, 0, 1));
  PELTON_RETURN_IF_ERROR(check_range("sampling.max_tokens", params.max_tokens, 1, kMaxCount));
  PELTON_RETURN_IF_ERROR(
      check_range("sampling.min_tokens", params.min_tokens, 0, params.max_tokens));
  PELTON_RETURN_IF_ERROR(check_range("sampling.logprobs", params.logprobs, -1, kMaxLogprobs));
  PELTON_RETURN_IF_ERROR(
      check_range("sampling.prompt_logprobs", params.prompt_logprobs, -1, kMaxLogprobs));
  PELTON_RETURN_IF_ERROR(check_ids("sampling.stop_token_ids", params.stop_token_ids, vocab_size));
  if (params.stop_token_ids.size() > kMaxStopTokenIds) {
    return invalid_field("sampling.stop_token_ids", "too many");
  }
  PELTON_RETURN_IF_ERROR(check_stops(params.stop));
  return check_ban(params, vocab_size, eos);
}

}  // namespace pelton
