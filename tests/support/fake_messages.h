// What a scripted call's outputs become on the wire: a small stand-in for server/output_mapping, so
// that the HTTP gateway is tested alone. One call's; not thread-safe.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "core/request.h"
#include "pelton/v1/inference.pb.h"

namespace pelton {

class FakeMessages {
 public:
  explicit FakeMessages(std::string id) : id_(std::move(id)) {}

  void fill(const RequestOutput& output, v1::CompleteStreamResponse* message) {
    fill_message(output, id_, message);
    if (!filled_) message->add_prompt_token_ids(7);
    filled_ = true;
    auto* choice = message->add_choices();
    choice->set_text(output.text);
    fill_choice(output, choice);
  }
  void fill(const RequestOutput& output, v1::ChatStreamResponse* message) {
    fill_message(output, id_, message);
    if (!filled_) message->add_prompt_token_ids(7);
    filled_ = true;
    auto* choice = message->add_choices();
    choice->mutable_message()->set_role(v1::ROLE_ASSISTANT);
    if (!output.text.empty()) choice->mutable_message()->add_content()->set_text(output.text);
    fill_choice(output, choice);
  }
  void accumulate(const RequestOutput& output, v1::CompleteResponse* message) {
    fill_message(output, id_, message);
    if (!filled_) message->add_prompt_token_ids(7);
    filled_ = true;
    if (message->choices_size() == 0) message->add_choices();
    auto* choice = message->mutable_choices(0);
    choice->mutable_text()->append(output.text);
    fill_choice(output, choice);
  }
  void accumulate(const RequestOutput& output, v1::ChatResponse* message) {
    fill_message(output, id_, message);
    if (!filled_) message->add_prompt_token_ids(7);
    filled_ = true;
    if (message->choices_size() == 0) message->add_choices();
    auto* choice = message->mutable_choices(0);
    auto* content = choice->mutable_message();
    if (content->content_size() == 0) content->add_content();
    content->mutable_content(0)->mutable_text()->append(output.text);
    fill_choice(output, choice);
  }

 private:
  static v1::FinishReason map_finish(FinishReason reason) {
    switch (reason) {
      case FinishReason::kStop:
        return v1::FINISH_REASON_STOP;
      case FinishReason::kLength:
        return v1::FINISH_REASON_LENGTH;
      case FinishReason::kAbort:
        return v1::FINISH_REASON_ABORT;
      case FinishReason::kError:
        return v1::FINISH_REASON_ERROR;
      case FinishReason::kNone:
        break;
    }
    return v1::FINISH_REASON_UNSPECIFIED;
  }

  template <typename Choice>
  static void fill_choice(const RequestOutput& output, Choice* choice) {
    choice->set_finish_reason(map_finish(output.finish_reason));
    if (!output.stop_string.empty()) choice->set_stop_string(output.stop_string);
    if (output.stop_token) choice->set_stop_token_id(*output.stop_token);
    for (const TokenId id : output.tokens) choice->add_token_ids(id);
    for (const PositionLogprobs& position : output.logprobs) {
      auto* out = choice->add_logprobs();
      const auto copy = [](const TokenLogprob& from, v1::TokenLogprob* to) {
        to->set_token_id(from.token);
        to->set_logprob(from.logprob);
        to->set_rank(from.rank);
        to->set_token(from.token == 0 ? std::string("\xC3") : fmt::format("t{}", from.token));
      };
      copy(position.chosen, out->mutable_chosen());
      for (const TokenLogprob& top : position.top) copy(top, out->add_top());
    }
  }

  template <typename Message>
  static void fill_message(const RequestOutput& output, const std::string& id, Message* message) {
    message->set_id(id);
    message->set_model("fake");
    message->mutable_usage()->set_prompt_tokens(output.usage.prompt_tokens);
    message->mutable_usage()->set_cached_tokens(output.usage.cached_tokens);
    message->mutable_usage()->set_completion_tokens(output.usage.completion_tokens);
  }

  const std::string id_;
  bool filled_ = false;
};

}  // namespace pelton
