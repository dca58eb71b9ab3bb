// OpenAI's and vLLM's JSON bodies to the messages of proto/pelton/v1. Only types are checked here;
// bounds are left to the one validator of the service core. Unknown members are ignored, null is
// absent, of a repeated name the last counts. Errors name the JSON member. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "pelton/v1/inference.pb.h"

namespace pelton {

constexpr int kMaxJsonDepth = 64;
constexpr int kMaxPrompts = 256;        // of one completion request
constexpr int kMaxChatMessages = 4096;  // kept here too: a body can hold millions of "{}"
constexpr int kMaxTools = 128;

// What the client asked to see, beside what the messages themselves say.
struct AnswerShape {
  bool stream = false;
  bool include_usage = false;     // a last chunk with the usage of the whole
  bool continuous_usage = false;  // and the usage so far in every chunk
  bool return_token_ids = false;
  bool tokens_as_ids = false;  // "token_id:17" where a token's text would stand
  bool logprobs = false;
  bool prompt_logprobs = false;
};

// The JSON names of members that have more than one name for one proto field.
struct FieldNames {
  bool chat = false;
  std::string max_tokens = "max_tokens";
  std::string structured_output = "structured_outputs";
};

struct CompletionBody {
  v1::CompleteRequest request;      // without its prompt
  std::vector<v1::Prompt> prompts;  // one or more; each is a call of its own
  AnswerShape shape;
};
struct ChatBody {
  v1::ChatRequest request;
  AnswerShape shape;
};

// `names` is filled in as far as was read, errors included.
StatusOr<CompletionBody> parse_completion_body(std::string_view body, FieldNames* names);
StatusOr<ChatBody> parse_chat_body(std::string_view body, FieldNames* names);
StatusOr<v1::TokenizeRequest> parse_tokenize_body(std::string_view body, FieldNames* names);
StatusOr<v1::DetokenizeRequest> parse_detokenize_body(std::string_view body);

}  // namespace pelton
