#include "server/output_mapping.h"

#include <chrono>
#include <iterator>
#include <utility>

#include "server/inference_service.h"
#include "text/tokenizer.h"

namespace pelton {
namespace {

v1::FinishReason to_api(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kAbort:
      return v1::FINISH_REASON_ABORT;
    case FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

int64_t to_us(Duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

void set_usage(const Usage& from, v1::Usage* to) {
  to->set_prompt_tokens(from.prompt_tokens);
  to->set_cached_tokens(from.cached_tokens);
  to->set_completion_tokens(from.completion_tokens);
}

void set_timing(const Timing& from, v1::Timing* to) {
  to->set_queued_us(to_us(from.queued));
  to->set_prefill_us(to_us(from.prefill));
  to->set_decode_us(to_us(from.decode));
}

void add_text(const std::string& text, bool, v1::CompletionChoice* choice) {
  choice->mutable_text()->append(text);
}

void add_text(const std::string& text, bool first, v1::ChatChoice* choice) {
  v1::ChatMessage* message = choice->mutable_message();
  if (first) message->set_role(v1::ROLE_ASSISTANT);
  if (text.empty() && !first) return;
  if (message->content().empty()) message->add_content();
  message->mutable_content(0)->mutable_text()->append(text);
}

template <typename T>
void append(std::vector<T>& into, std::vector<T>&& later) {
  if (into.empty()) {
    into = std::move(later);
  } else {
    into.insert(into.end(), std::make_move_iterator(later.begin()),
                std::make_move_iterator(later.end()));
  }
}

}  // namespace

void merge_output(RequestOutput& into, RequestOutput&& later) {
  append(into.tokens, std::move(later.tokens));
  into.text += later.text;
  append(into.logprobs, std::move(later.logprobs));
  append(into.prompt_logprobs, std::move(later.prompt_logprobs));
  into.finish_reason = later.finish_reason;
  into.stop_string = std::move(later.stop_string);
  into.stop_token = later.stop_token;
  into.status = std::move(later.status);
  into.usage = later.usage;
  into.timing = later.timing;
}

OutputMapper::OutputMapper(std::string request_id, const ModelFacts& facts,
                           const Tokenizer* tokenizer, int64_t created_unix_s,
                           bool return_token_ids)
    : request_id_(std::move(request_id)),
      model_(facts.name),
      tokenizer_(tokenizer),
      created_unix_s_(created_unix_s),
      return_token_ids_(return_token_ids) {}

template <typename Message>
void OutputMapper::add(const RequestOutput& output, Message* message) {
  message->set_id(request_id_);
  message->set_model(model_);
  message->set_created_unix_s(created_unix_s_);
  add_choice(output,
             message->choices().empty() ? message->add_choices() : message->mutable_choices(0));
  set_usage(output.usage, message->mutable_usage());
  if (output.finished()) set_timing(output.timing, message->mutable_timing());
  if (first_ && return_token_ids_) {
    message->mutable_prompt_token_ids()->Add(prompt_.begin(), prompt_.end());
    prompt_ = {};
  }
  for (const PositionLogprobs& position : output.prompt_logprobs) {
    add_logprobs(position, message->add_prompt_logprobs());
  }
  first_ = false;
}

template <typename Choice>
void OutputMapper::add_choice(const RequestOutput& output, Choice* choice) {
  add_text(output.text, first_, choice);
  choice->set_finish_reason(to_api(output.finish_reason));
  if (!output.stop_string.empty()) {
    choice->set_stop_string(output.stop_string);
  } else if (output.stop_token) {
    choice->set_stop_token_id(*output.stop_token);
  }
  if (return_token_ids_) {
    choice->mutable_token_ids()->Add(output.tokens.begin(), output.tokens.end());
  }
  for (const PositionLogprobs& position : output.logprobs) {
    add_logprobs(position, choice->add_logprobs());
  }
}

void OutputMapper::add_logprobs(const PositionLogprobs& from, v1::PositionLogprobs* to) const {
  add_logprob(from.chosen, to->mutable_chosen());
  for (const TokenLogprob& top : from.top) add_logprob(top, to->add_top());
}

void OutputMapper::add_logprob(const TokenLogprob& from, v1::TokenLogprob* to) const {
  to->set_token_id(from.token);
  to->set_logprob(from.logprob);
  to->set_rank(from.rank);
  if (tokenizer_ != nullptr) to->set_token(std::string(tokenizer_->token_bytes(from.token)));
}

template void OutputMapper::add(const RequestOutput&, v1::CompleteResponse*);
template void OutputMapper::add(const RequestOutput&, v1::CompleteStreamResponse*);
template void OutputMapper::add(const RequestOutput&, v1::ChatResponse*);
template void OutputMapper::add(const RequestOutput&, v1::ChatStreamResponse*);

v1::Model to_model(const ServedModel& model) {
  const ModelFacts& facts = model.facts();
  v1::Model out;
  out.set_name(facts.name);
  out.set_architecture(facts.architecture);
  out.set_created_unix_s(facts.created_unix_s);
  out.set_max_model_len(facts.max_model_len);
  out.set_vocab_size(facts.vocab_size);
  out.set_parameters(facts.parameters);
  out.set_weight_bytes(facts.weight_bytes);
  out.set_weight_format(facts.weight_format);
  out.set_device(facts.device);
  out.add_capabilities(v1::CAPABILITY_COMPLETE);
  if (model.tokenizer() != nullptr) {
    out.add_capabilities(v1::CAPABILITY_TOKENIZE);
    if (model.chat_template() != nullptr) out.add_capabilities(v1::CAPABILITY_CHAT);
  }
  return out;
}

}  // namespace pelton
