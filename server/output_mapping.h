// Engine outputs as messages of the public API. One OutputMapper a call, used by one thread at a
// time and in order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/request.h"
#include "pelton/v1/inference.pb.h"
#include "pelton/v1/models.pb.h"
#include "server/model_host.h"

namespace pelton {

class OutputMapper {
 public:
  // `tokenizer` (null: none) gives the bytes of tokens in logprobs; it outlives this.
  OutputMapper(std::string request_id, const ModelFacts& facts, const Tokenizer* tokenizer,
               int64_t created_unix_s, bool return_token_ids);

  // Before the first output, where the prompt's ids were asked for.
  void set_prompt(const std::vector<TokenId>& prompt) { prompt_ = prompt; }
  bool wants_prompt() const { return return_token_ids_; }
  const std::string& request_id() const { return request_id_; }

  // Adds the output to `message`: an empty one for a stream, the growing answer for a unary call.
  template <typename Message>
  void add(const RequestOutput& output, Message* message);

 private:
  template <typename Choice>
  void add_choice(const RequestOutput& output, Choice* choice);
  void add_logprobs(const PositionLogprobs& from, v1::PositionLogprobs* to) const;
  void add_logprob(const TokenLogprob& from, v1::TokenLogprob* to) const;

  const std::string request_id_;
  const std::string model_;
  const Tokenizer* const tokenizer_;
  const int64_t created_unix_s_;
  const bool return_token_ids_;
  std::vector<TokenId> prompt_;
  bool first_ = true;
};

v1::Model to_model(const ServedModel& model);

}  // namespace pelton
