#include "server/convert.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "server/field_check.h"
#include "server/validate_chat.h"
#include "server/validate_sampling.h"

namespace pelton {
namespace {

constexpr int kDefaultMaxTokens = 16;
constexpr int kMaxInputs = 2048;
constexpr size_t kMaxNameBytes = 256;

Status context_length_exceeded(std::string_view field, std::string why) {
  Status status = invalid_field(field, why);
  set_error_reason(status, "CONTEXT_LENGTH_EXCEEDED");
  return status;
}

Status prompt_too_long(std::string_view field, size_t tokens, const ModelLimits& limits) {
  return context_length_exceeded(
      field, fmt::format("the prompt has {} tokens, and the context of this model is {} tokens, of "
                         "which the answer needs at least one",
                         tokens, limits.max_model_len));
}

void check_prompt(const v1::Prompt& prompt, const ModelLimits& limits, const FieldCheck& check) {
  switch (prompt.prompt_case()) {
    case v1::Prompt::kText:
      check.require("text", limits.has_tokenizer, "this model has no tokenizer: send token_ids");
      check_text_fits("text", prompt.text().size(), limits, check);
      return;
    case v1::Prompt::kTokenIds:
      check.require("token_ids", !prompt.token_ids().ids().empty(), "at least one is needed");
      if (prompt.token_ids().ids_size() >= limits.max_model_len) {
        check.refuse(
            prompt_too_long(check.path("token_ids"), prompt.token_ids().ids_size(), limits));
      }
      check.token_ids("token_ids", prompt.token_ids().ids(), kInt32Max, limits.vocab_size);
      return;
    case v1::Prompt::PROMPT_NOT_SET:
      check.invalid("", "text or token_ids must be set");
      return;
  }
}

// What Complete and Chat share.
template <typename ApiRequest>
StatusOr<ConvertedRequest> common_parts(ApiRequest& request, std::string_view prompt_field,
                                        const ModelLimits& limits) {
  ConvertedRequest out;
  out.max_tokens_given = request.sampling().has_max_tokens();
  out.params = to_core(std::move(*request.mutable_sampling()));
  out.priority = request.scheduling().priority();
  // Cached tokens have no logits to read their probabilities from.
  out.use_prefix_cache = out.params.prompt_logprobs < 0;
  out.return_token_ids = request.return_token_ids();
  out.prompt_field = prompt_field;
  if (out.max_tokens_given) {  // refuse what no prompt is short enough for, before any work
    ConvertedRequest shortest = out;
    PELTON_RETURN_IF_ERROR(fit_to_context(shortest, 1, limits));
  }
  return out;
}

void check_inputs(const google::protobuf::RepeatedPtrField<v1::Prompt>& inputs,
                  const ModelLimits& limits, const FieldCheck& check) {
  check.require("inputs", !inputs.empty(), "at least one is needed");
  check.count("inputs", inputs.size(), kMaxInputs);
  for (int i = 0; i < inputs.size() && check.ok(); ++i) {
    check_prompt(inputs[i], limits, check.in("inputs", i));
  }
}

}  // namespace

void check_text_fits(std::string_view field, size_t bytes, const ModelLimits& limits,
                     const FieldCheck& check) {
  const auto longest = static_cast<size_t>(limits.max_model_len) * limits.longest_token_bytes;
  if (limits.longest_token_bytes == 0 || bytes <= longest) return;
  check.refuse(context_length_exceeded(
      check.path(field), fmt::format("{} bytes of text can not fit the context of {} tokens", bytes,
                                     limits.max_model_len)));
}

StatusOr<ConvertedRequest> convert(v1::CompleteRequest request, const ModelLimits& limits) {
  FieldCheck::Findings findings;
  const FieldCheck check(&findings);
  check.bytes("model", request.model(), kMaxNameBytes);
  check_prompt(request.prompt(), limits, check.in("prompt"));
  check_sampling(request.sampling(), limits, check.in("sampling"));
  check_scheduling(request.scheduling(), check.in("scheduling"));
  check.bytes("adapter", request.adapter(), kMaxNameBytes);
  check.unbuilt("echo", request.echo());
  check.unbuilt("suffix", !request.suffix().empty());
  check.unbuilt("adapter", !request.adapter().empty());
  PELTON_RETURN_IF_ERROR(findings.status());

  PELTON_ASSIGN_OR_RETURN(ConvertedRequest out, common_parts(request, "prompt", limits));
  if (request.prompt().has_token_ids()) {
    const auto& ids = request.prompt().token_ids().ids();
    out.prompt = std::vector<TokenId>(ids.begin(), ids.end());
    PELTON_RETURN_IF_ERROR(fit_to_context(out, ids.size(), limits));
  } else {
    const bool add_special = !request.has_add_special_tokens() || request.add_special_tokens();
    out.prompt = TextPrompt{std::move(*request.mutable_prompt()->mutable_text()), add_special};
  }
  return out;
}

StatusOr<ConvertedRequest> convert(v1::ChatRequest request, const ModelLimits& limits) {
  FieldCheck::Findings findings;
  const FieldCheck check(&findings);
  check_chat(request, limits, check);
  check_tool_calls(request, check);
  check_sampling(request.sampling(), limits, check.in("sampling"));
  check_scheduling(request.scheduling(), check.in("scheduling"));
  PELTON_RETURN_IF_ERROR(findings.status());

  PELTON_ASSIGN_OR_RETURN(ConvertedRequest out, common_parts(request, "messages", limits));
  out.prompt = std::move(request);
  return out;
}

Status fit_to_context(ConvertedRequest& request, size_t prompt_tokens, const ModelLimits& limits) {
  if (prompt_tokens == 0) {
    return invalid_field(request.prompt_field, "comes to no token at all; at least one is needed");
  }
  if (prompt_tokens >= static_cast<size_t>(limits.max_model_len)) {
    return prompt_too_long(request.prompt_field, prompt_tokens, limits);
  }
  const int rest = limits.max_model_len - static_cast<int>(prompt_tokens);
  SamplingParams& params = request.params;
  if (!request.max_tokens_given) {
    const bool chat = std::holds_alternative<v1::ChatRequest>(request.prompt);
    params.max_tokens = chat ? rest : std::min(rest, kDefaultMaxTokens);
  } else if (params.max_tokens > rest) {
    return context_length_exceeded(
        "sampling.max_tokens",
        fmt::format("the context of this model is {} tokens, and {} of prompt leave {} for the "
                    "answer, fewer than the {} asked for",
                    limits.max_model_len, prompt_tokens, rest, params.max_tokens));
  }
  if (params.min_tokens > params.max_tokens) {
    return invalid_field("sampling.min_tokens", fmt::format("must be in [0, {}], the number of "
                                                            "tokens that may be generated",
                                                            params.max_tokens));
  }
  return absl::OkStatus();
}

Status validate(const v1::TokenizeRequest& request, const ModelLimits& limits) {
  FieldCheck::Findings findings;
  const FieldCheck check(&findings);
  check.bytes("model", request.model(), kMaxNameBytes);
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      check.require("model", limits.has_tokenizer, "this model has no tokenizer");
      check_text_fits("text", request.text().size(), limits, check);
      break;
    case v1::TokenizeRequest::kChat: {
      const FieldCheck chat = check.in("chat");
      chat.require("model",
                   request.chat().model().empty() || request.chat().model() == request.model(),
                   "must be that of the request itself, or empty");
      check_chat(request.chat(), limits, chat);
      break;
    }
    case v1::TokenizeRequest::INPUT_NOT_SET:
      check.invalid("text", "text or chat must be set");
      break;
  }
  return findings.status();
}

Status validate(const v1::DetokenizeRequest& request, const ModelLimits& limits) {
  FieldCheck::Findings findings;
  const FieldCheck check(&findings);
  check.bytes("model", request.model(), kMaxNameBytes);
  check.require("model", limits.has_tokenizer, "this model has no tokenizer");
  check.token_ids("token_ids", request.token_ids(), limits.max_model_len, limits.vocab_size);
  return findings.status();
}

Status validate(const v1::EmbedRequest& request, const ModelLimits& limits) {
  FieldCheck::Findings findings;
  const FieldCheck check(&findings);
  check.bytes("model", request.model(), kMaxNameBytes);
  check_inputs(request.inputs(), limits, check);
  if (request.has_dimensions()) check.integer("dimensions", request.dimensions(), 1, kInt32Max);
  if (request.has_truncate_prompt_tokens()) {
    check.integer("truncate_prompt_tokens", request.truncate_prompt_tokens(), 1,
                  limits.max_model_len);
  }
  return findings.status();
}

Status validate(const v1::RerankRequest& request, const ModelLimits&) {
  FieldCheck::Findings findings;
  const FieldCheck check(&findings);
  check.bytes("model", request.model(), kMaxNameBytes);
  check.require("query", !request.query().empty(), "must not be empty");
  check.require("documents", !request.documents().empty(), "at least one is needed");
  check.count("documents", request.documents_size(), kMaxInputs);
  if (request.has_top_n()) check.integer("top_n", request.top_n(), 1, kInt32Max);
  return findings.status();
}

Status validate(const v1::ClassifyRequest& request, const ModelLimits& limits) {
  FieldCheck::Findings findings;
  const FieldCheck check(&findings);
  check.bytes("model", request.model(), kMaxNameBytes);
  check_inputs(request.inputs(), limits, check);
  return findings.status();
}

}  // namespace pelton
