// The one validator of both front ends: a request of the public API becomes what the engine takes,
// or an error that names the field by its proto path. Pure functions; what needs the tokenizer
// comes later, in fit_to_context().
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "core/request.h"
#include "core/status.h"
#include "pelton/v1/inference.pb.h"

namespace pelton {

// What a request is bounded by.
struct ModelLimits {
  int max_model_len = 0;  // tokens of prompt and answer together
  int vocab_size = 0;
  bool has_tokenizer = false;
  bool has_chat_template = false;
  // The longest token's bytes: a text of more than max_model_len times that can not fit, and is
  // refused before it costs anything. 0: not known.
  int longest_token_bytes = 0;
};

struct TextPrompt {
  std::string text;
  bool add_special_tokens = true;
};

struct ConvertedRequest {
  // A chat is rendered and encoded on the worker pool (chat_json.h).
  std::variant<std::vector<TokenId>, TextPrompt, v1::ChatRequest> prompt;
  SamplingParams params;
  bool max_tokens_given = false;
  int priority = 0;
  bool use_prefix_cache = true;
  bool return_token_ids = false;
  std::string_view prompt_field;  // "prompt" or "messages", for errors
};

// Errors: INVALID_ARGUMENT (INVALID_FIELD, CONTEXT_LENGTH_EXCEEDED), UNIMPLEMENTED
// (UNSUPPORTED_PARAMETER).
StatusOr<ConvertedRequest> convert(v1::CompleteRequest request, const ModelLimits& limits);
StatusOr<ConvertedRequest> convert(v1::ChatRequest request, const ModelLimits& limits);

// Once the prompt's length is known: sets max_tokens where the request left it out (16 for a
// prompt's continuation, the rest of the context for a chat), or refuses what does not fit.
Status fit_to_context(ConvertedRequest& request, size_t prompt_tokens, const ModelLimits& limits);

Status validate(const v1::TokenizeRequest& request, const ModelLimits& limits);
Status validate(const v1::DetokenizeRequest& request, const ModelLimits& limits);
Status validate(const v1::EmbedRequest& request, const ModelLimits& limits);
Status validate(const v1::RerankRequest& request, const ModelLimits& limits);
Status validate(const v1::ClassifyRequest& request, const ModelLimits& limits);

}  // namespace pelton
