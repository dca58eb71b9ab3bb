#include "server/openai_request.h"

#include <fmt/format.h>

#include <array>

#include "server/openai_fields.h"

namespace pelton {
namespace {

using Table = std::span<const FieldRow>;

// ---- members that both kinds of generation share

Status set_model(std::string_view name, JsonView value, Draft& draft) {
  std::string model;
  PELTON_RETURN_IF_ERROR(read_string(name, value, &model));
  if (draft.chat != nullptr) draft.chat->set_model(model);
  if (draft.complete != nullptr) draft.complete->set_model(model);
  return absl::OkStatus();
}

Status set_max_tokens(std::string_view name, JsonView value, Draft& draft) {
  int32_t count = 0;
  PELTON_RETURN_IF_ERROR(read_int32(name, value, &count));
  draft.sampling->set_max_tokens(count);
  draft.names->max_tokens = std::string(name);
  return absl::OkStatus();
}

template <bool AnswerShape::*kFlag>
Status set_shape(std::string_view name, JsonView value, Draft& draft) {
  return read_bool(name, value, &(draft.shape->*kFlag));
}

Status set_stream_options(std::string_view name, JsonView value, Draft& draft) {
  if (!value.is_object()) return wrong_type(name, "an object");
  if (!draft.shape->stream) return invalid_field(name, "is only allowed with stream true");
  if (const JsonView flag = value["include_usage"]; flag.present()) {
    PELTON_RETURN_IF_ERROR(
        read_bool("stream_options.include_usage", flag, &draft.shape->include_usage));
  }
  if (const JsonView flag = value["continuous_usage_stats"]; flag.present()) {
    PELTON_RETURN_IF_ERROR(
        read_bool("stream_options.continuous_usage_stats", flag, &draft.shape->continuous_usage));
  }
  draft.shape->continuous_usage &= draft.shape->include_usage;
  return absl::OkStatus();
}

// Members that the API of the service core has no place for: fine while they are neutral.
Status refuse_true(std::string_view name, JsonView value, Draft&) {
  bool flag = false;
  PELTON_RETURN_IF_ERROR(read_bool(name, value, &flag));
  return flag ? unsupported_field(name, "is not built yet") : absl::OkStatus();
}
Status refuse_any(std::string_view name, JsonView value, Draft&) {
  const bool neutral = value.raw() == "[]" || value.raw() == "{}" || value.raw() == "\"\"";
  return neutral ? absl::OkStatus() : unsupported_field(name, "is not built yet");
}

Status refuse_unless_none(std::string_view name, JsonView value, Draft& draft) {
  return value.raw() == "\"none\"" ? absl::OkStatus() : refuse_any(name, value, draft);
}

Status set_best_of(std::string_view name, JsonView value, Draft& draft) {
  int32_t best_of = 0;
  PELTON_RETURN_IF_ERROR(read_int32(name, value, &best_of));
  const int32_t n = draft.sampling->has_n() ? draft.sampling->n() : 1;
  if (best_of < n) return invalid_field(name, "must be at least n");
  return best_of == n ? absl::OkStatus() : unsupported_field(name, "above n is not built yet");
}

constexpr std::array<FieldRow, 8> kSharedFields = {{
    {"model", set_model},
    {"max_tokens", set_max_tokens},
    {"max_completion_tokens", set_max_tokens},
    {"stream", set_shape<&AnswerShape::stream>},
    {"stream_options", set_stream_options},
    {"return_token_ids", set_shape<&AnswerShape::return_token_ids>},
    {"return_tokens_as_token_ids", set_shape<&AnswerShape::tokens_as_ids>},
    {"use_beam_search", refuse_true},
}};

// ---- completions

Status read_prompt_list(JsonView value, std::vector<v1::Prompt>* prompts) {
  Status status;
  value.for_each_element([&](JsonView element) {
    if (prompts->size() >= static_cast<size_t>(kMaxPrompts)) {
      status = invalid_field("prompt", fmt::format("has more than {} prompts", kMaxPrompts));
      return false;
    }
    v1::Prompt& prompt = prompts->emplace_back();
    if (element.is_array()) {
      status = read_ids("prompt", element, prompt.mutable_token_ids()->mutable_ids());
    } else {
      status = read_string("prompt", element, prompt.mutable_text());
    }
    return status.ok();
  });
  return status;
}

Status set_prompt(std::string_view name, JsonView value, Draft& draft) {
  if (value.is_string()) {
    return read_string(name, value, draft.prompts->emplace_back().mutable_text());
  }
  if (!value.is_array()) return wrong_type(name, "a string, token ids, or an array of these");
  JsonView first;
  value.for_each_element([&](JsonView element) {
    first = element;
    return false;
  });
  if (first.kind() == JsonView::Kind::kAbsent) return invalid_field(name, "must not be empty");
  if (first.kind() == JsonView::Kind::kNumber) {
    return read_ids(name, value, draft.prompts->emplace_back().mutable_token_ids()->mutable_ids());
  }
  return read_prompt_list(value, draft.prompts);
}

Status set_completion_logprobs(std::string_view name, JsonView value, Draft& draft) {
  int32_t count = 0;
  PELTON_RETURN_IF_ERROR(read_int32(name, value, &count));
  draft.sampling->set_logprobs(count);
  draft.shape->logprobs = true;
  return absl::OkStatus();
}

template <auto kSetter>
Status set_complete_bool(std::string_view name, JsonView value, Draft& draft) {
  bool flag = false;
  PELTON_RETURN_IF_ERROR(read_bool(name, value, &flag));
  (draft.complete->*kSetter)(flag);
  return absl::OkStatus();
}

constexpr std::array<FieldRow, 7> kCompletionFields = {{
    {"prompt", set_prompt},
    {"logprobs", set_completion_logprobs},
    {"echo", set_complete_bool<&v1::CompleteRequest::set_echo>},
    {"suffix",
     [](std::string_view name, JsonView value, Draft& draft) {
       return read_string(name, value, draft.complete->mutable_suffix());
     }},
    {"add_special_tokens", set_complete_bool<&v1::CompleteRequest::set_add_special_tokens>},
    {"best_of", set_best_of},
    {"prompt_embeds", refuse_any},
}};

// ---- chat

Status set_chat_logprobs(std::string_view name, JsonView value, Draft& draft) {
  PELTON_RETURN_IF_ERROR(read_bool(name, value, &draft.shape->logprobs));
  if (draft.shape->logprobs) draft.sampling->set_logprobs(0);
  return absl::OkStatus();
}

Status set_top_logprobs(std::string_view name, JsonView value, Draft& draft) {
  int32_t count = 0;
  PELTON_RETURN_IF_ERROR(read_int32(name, value, &count));
  if (count != 0 && !draft.shape->logprobs) {
    return invalid_field(name, "is only allowed with logprobs true");
  }
  if (draft.shape->logprobs) draft.sampling->set_logprobs(count);
  return absl::OkStatus();
}

template <auto kSetter>
Status set_chat_bool(std::string_view name, JsonView value, Draft& draft) {
  bool flag = false;
  PELTON_RETURN_IF_ERROR(read_bool(name, value, &flag));
  (draft.chat->*kSetter)(flag);
  return absl::OkStatus();
}

Status set_template_kwargs(std::string_view name, JsonView value, Draft& draft) {
  if (!value.is_object()) return wrong_type(name, "an object");
  draft.chat->set_template_kwargs_json(std::string(value.raw()));
  return absl::OkStatus();
}

constexpr std::array<FieldRow, 7> kConversationFields = {{
    {"model", set_model},
    {"messages", read_messages},
    {"tools", read_tools},
    {"add_generation_prompt", set_chat_bool<&v1::ChatRequest::set_add_generation_prompt>},
    {"continue_final_message", set_chat_bool<&v1::ChatRequest::set_continue_final_message>},
    {"chat_template_kwargs", set_template_kwargs},
    {"chat_template", refuse_any},  // templates come from the operator alone
}};

constexpr std::array<FieldRow, 10> kChatFields = {{
    {"logprobs", set_chat_logprobs},
    {"top_logprobs", set_top_logprobs},
    {"tool_choice", read_tool_choice},
    {"parallel_tool_calls", set_chat_bool<&v1::ChatRequest::set_parallel_tool_calls>},
    {"separate_reasoning", set_chat_bool<&v1::ChatRequest::set_separate_reasoning>},
    {"echo", refuse_true},
    {"add_special_tokens", refuse_true},
    {"documents", refuse_any},
    {"functions", refuse_any},
    {"function_call", refuse_unless_none},
}};

}  // namespace

StatusOr<CompletionBody> parse_completion_body(std::string_view body, FieldNames* names) {
  PELTON_ASSIGN_OR_RETURN(const JsonView root, parse_object(body));
  CompletionBody out;
  Draft draft;
  draft.complete = &out.request;
  draft.sampling = out.request.mutable_sampling();
  draft.scheduling = out.request.mutable_scheduling();
  draft.prompts = &out.prompts;
  draft.shape = &out.shape;
  draft.names = names;
  const std::array<Table, 3> tables = {kSharedFields, sampling_fields(), kCompletionFields};
  PELTON_RETURN_IF_ERROR(set_fields(root, tables, draft));
  if (out.prompts.empty()) return invalid_field("prompt", "is required");
  out.shape.prompt_logprobs = out.request.sampling().has_prompt_logprobs();
  out.request.set_return_token_ids(out.shape.return_token_ids);
  return out;
}

StatusOr<ChatBody> parse_chat_body(std::string_view body, FieldNames* names) {
  names->chat = true;
  PELTON_ASSIGN_OR_RETURN(const JsonView root, parse_object(body));
  ChatBody out;
  Draft draft;
  draft.chat = &out.request;
  draft.sampling = out.request.mutable_sampling();
  draft.scheduling = out.request.mutable_scheduling();
  draft.shape = &out.shape;
  draft.names = names;
  const std::array<Table, 4> tables = {kSharedFields, sampling_fields(), kConversationFields,
                                       kChatFields};
  PELTON_RETURN_IF_ERROR(set_fields(root, tables, draft));
  if (out.request.messages_size() == 0) return invalid_field("messages", "is required");
  out.shape.prompt_logprobs = out.request.sampling().has_prompt_logprobs();
  out.request.set_return_token_ids(out.shape.return_token_ids);
  return out;
}

StatusOr<v1::TokenizeRequest> parse_tokenize_body(std::string_view body, FieldNames* names) {
  PELTON_ASSIGN_OR_RETURN(const JsonView root, parse_object(body));
  v1::TokenizeRequest out;
  if (root["model"].present()) {
    PELTON_RETURN_IF_ERROR(read_string("model", root["model"], out.mutable_model()));
  }
  if (root["return_token_strs"].present()) {
    bool flag = false;
    PELTON_RETURN_IF_ERROR(read_bool("return_token_strs", root["return_token_strs"], &flag));
    out.set_return_token_strings(flag);
  }
  const JsonView special = root["add_special_tokens"];
  bool add_special = false;
  if (special.present()) {
    PELTON_RETURN_IF_ERROR(read_bool("add_special_tokens", special, &add_special));
  }
  if (root["messages"].present()) {
    names->chat = true;
    if (add_special) return unsupported_field("add_special_tokens", "of a chat is not built yet");
    Draft draft;
    draft.chat = out.mutable_chat();
    draft.names = names;
    const std::array<Table, 1> tables = {kConversationFields};
    PELTON_RETURN_IF_ERROR(set_fields(root, tables, draft));
    return out;
  }
  if (!root["prompt"].present()) return invalid_field("prompt", "is required");
  PELTON_RETURN_IF_ERROR(read_string("prompt", root["prompt"], out.mutable_text()));
  if (special.present()) out.set_add_special_tokens(add_special);
  return out;
}

StatusOr<v1::DetokenizeRequest> parse_detokenize_body(std::string_view body) {
  PELTON_ASSIGN_OR_RETURN(const JsonView root, parse_object(body));
  v1::DetokenizeRequest out;
  if (root["model"].present()) {
    PELTON_RETURN_IF_ERROR(read_string("model", root["model"], out.mutable_model()));
  }
  if (!root["tokens"].present()) return invalid_field("tokens", "is required");
  PELTON_RETURN_IF_ERROR(read_ids("tokens", root["tokens"], out.mutable_token_ids()));
  return out;
}

}  // namespace pelton
