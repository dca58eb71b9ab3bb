// The messages of proto/pelton/v1 to OpenAI's JSON (vLLM's where it says more), appended to a
// buffer that the caller reuses. One writer belongs to one HTTP request and is used by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pelton/v1/inference.pb.h"
#include "pelton/v1/models.pb.h"
#include "server/openai_request.h"

namespace pelton {

class OpenAiWriter {
 public:
  // `calls`: how many prompts the request has; choice i of call c has the index c * n + i.
  OpenAiWriter(bool chat, AnswerShape shape, std::string id, int64_t created_unix_s, int calls,
               int choices_per_call);

  // One event's JSON. Appends nothing and returns false where the delta shows nothing (an
  // unfinished character); its usage is kept all the same.
  bool append_chunk(std::string& out, int call, const v1::CompleteStreamResponse& message);
  bool append_chunk(std::string& out, int call, const v1::ChatStreamResponse& message);
  // The last chunk of include_usage: no choices, the usage of all calls.
  void append_usage_chunk(std::string& out);

  // The whole answer; one message a call, in the prompts' order.
  void append_answer(std::string& out, const std::vector<v1::CompleteResponse>& messages);
  void append_answer(std::string& out, const std::vector<v1::ChatResponse>& messages);

 private:
  template <typename Message>
  bool append_any_chunk(std::string& out, int call, const Message& message);
  template <typename Message>
  void append_any_answer(std::string& out, const std::vector<Message>& messages);
  template <typename Choice>
  void append_choice(std::string& out, int call, const Choice& choice, bool streamed, bool first);
  void append_body(std::string& out, const v1::CompletionChoice& choice, bool streamed, bool first);
  void append_body(std::string& out, const v1::ChatChoice& choice, bool streamed, bool first);
  void append_logprobs(std::string& out, int index, const v1::CompletionChoice& choice);
  void append_logprobs(std::string& out, int index, const v1::ChatChoice& choice);
  std::string token_text(const v1::TokenLogprob& token) const;
  void append_head(std::string& out, std::string_view model, bool streamed);
  v1::Usage total_usage() const;

  bool chat_;
  AnswerShape shape_;
  std::string id_;
  int64_t created_unix_s_;
  int choices_per_call_;
  std::string chunk_head_;            // what all chunks begin with; made with the first one
  std::vector<v1::Usage> usage_;      // [calls], the latest
  std::vector<bool> first_seen_;      // [calls]
  std::vector<int64_t> text_offset_;  // [choices], code points of the tokens shown so far
};

void append_usage(std::string& out, const v1::Usage& usage);
void append_ids(std::string& out, const google::protobuf::RepeatedField<int32_t>& ids);
// vLLM's shape: null for the first token, then {"id": {"logprob", "rank", "decoded_token"}, ...}.
void append_prompt_logprobs(
    std::string& out, const google::protobuf::RepeatedPtrField<v1::PositionLogprobs>& positions);
void append_model_list(std::string& out, const v1::ListModelsResponse& models);
void append_model(std::string& out, const v1::Model& model);
void append_tokenize(std::string& out, const v1::TokenizeResponse& response, bool with_strings);
void append_detokenize(std::string& out, const v1::DetokenizeResponse& response);

}  // namespace pelton
