#include "server/openai_response.h"

#include <algorithm>
#include <type_traits>

#include "server/json_writer.h"

namespace pelton {
namespace {

std::string_view finish_name(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "\"stop\"";
    case v1::FINISH_REASON_LENGTH:
      return "\"length\"";
    case v1::FINISH_REASON_TOOL_CALLS:
      return "\"tool_calls\"";
    case v1::FINISH_REASON_ABORT:
      return "\"abort\"";
    case v1::FINISH_REASON_ERROR:
      return "\"error\"";
    default:
      return "null";
  }
}

// finish_reason, and vLLM's stop_reason: the string or token id that ended the answer.
template <typename Choice>
void append_finish(std::string& out, const Choice& choice) {
  out += R"(,"finish_reason":)";
  out += finish_name(choice.finish_reason());
  out += R"(,"stop_reason":)";
  if (choice.stop_cause_case() == Choice::kStopString) {
    append_json_string(out, choice.stop_string());
  } else if (choice.stop_cause_case() == Choice::kStopTokenId) {
    append_json_int(out, choice.stop_token_id());
  } else {
    out += "null";
  }
}

void append_tool_calls(std::string& out, const v1::ChatMessage& message, bool streamed) {
  out += '[';
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    const v1::ToolCall& call = message.tool_calls(i);
    out += i > 0 ? ",{" : "{";
    if (streamed) {
      out += R"("index":)";
      append_json_int(out, i);
      out += ',';
    }
    out += R"("id":)";
    append_json_string(out, call.id());
    out += R"(,"type":"function","function":{"name":)";
    append_json_string(out, call.name());
    out += R"(,"arguments":)";
    append_json_string(out, call.arguments_json());
    out += "}}";
  }
  out += ']';
}

void append_content(std::string& out, const v1::ChatMessage& message) {
  if (message.content_size() == 1) {
    append_json_string(out, message.content(0).text());
    return;
  }
  std::string text;
  for (const v1::ContentPart& part : message.content()) text += part.text();
  append_json_string(out, text);
}

bool shows_text(const v1::CompletionChoice& choice) {
  return !choice.text().empty();
}
bool shows_text(const v1::ChatChoice& choice) {
  const v1::ChatMessage& message = choice.message();
  return message.tool_calls_size() > 0 || !message.reasoning().empty() ||
         std::any_of(message.content().begin(), message.content().end(),
                     [](const v1::ContentPart& part) { return !part.text().empty(); });
}

template <typename Message>
bool shows_anything(const Message& message, bool return_token_ids) {
  for (const auto& choice : message.choices()) {
    if (shows_text(choice) || choice.finish_reason() != v1::FINISH_REASON_UNSPECIFIED ||
        choice.logprobs_size() > 0 || (return_token_ids && choice.token_ids_size() > 0)) {
      return true;
    }
  }
  return false;
}

}  // namespace

OpenAiWriter::OpenAiWriter(bool chat, AnswerShape shape, std::string id, int64_t created_unix_s,
                           int calls, int choices_per_call)
    : chat_(chat),
      shape_(shape),
      id_(std::move(id)),
      created_unix_s_(created_unix_s),
      choices_per_call_(std::max(1, choices_per_call)),
      usage_(calls),
      first_seen_(calls),
      text_offset_(static_cast<size_t>(calls) * std::max(1, choices_per_call)) {}

void OpenAiWriter::append_head(std::string& out, std::string_view model, bool streamed) {
  out += R"({"id":)";
  append_json_string(out, id_);
  out += R"(,"object":")";
  out += !chat_ ? "text_completion" : streamed ? "chat.completion.chunk" : "chat.completion";
  out += R"(","created":)";
  append_json_int(out, created_unix_s_);
  out += R"(,"model":)";
  append_json_string(out, model);
  out += R"(,"choices":[)";
}

void OpenAiWriter::append_body(std::string& out, const v1::CompletionChoice& choice, bool, bool) {
  out += R"(,"text":)";
  append_json_string(out, choice.text());
}

void OpenAiWriter::append_body(std::string& out, const v1::ChatChoice& choice, bool streamed,
                               bool first) {
  const v1::ChatMessage& message = choice.message();
  out += streamed ? R"(,"delta":{)" : R"(,"message":{)";
  bool comma = false;
  const auto member = [&](std::string_view name) {
    if (comma) out += ',';
    comma = true;
    out += '"';
    out += name;
    out += "\":";
  };
  if (first) {
    member("role");
    out += "\"assistant\"";
  }
  if (message.content_size() > 0 || (first && message.tool_calls_size() == 0)) {
    member("content");
    append_content(out, message);
  } else if (!streamed) {
    member("content");
    out += "null";
  }
  if (!streamed) {
    member("refusal");
    out += "null";
  }
  if (message.tool_calls_size() > 0) {
    member("tool_calls");
    append_tool_calls(out, message, streamed);
  }
  if (!message.reasoning().empty()) {
    member("reasoning");
    append_json_string(out, message.reasoning());
  }
  out += '}';
}

template <typename Choice>
void OpenAiWriter::append_choice(std::string& out, int call, const Choice& choice, bool streamed,
                                 bool first) {
  const int index = call * choices_per_call_ + choice.index();
  out += R"({"index":)";
  append_json_int(out, index);
  append_body(out, choice, streamed, first);
  out += R"(,"logprobs":)";
  if (shape_.logprobs && choice.logprobs_size() > 0) {
    append_logprobs(out, index, choice);
  } else {
    out += "null";
  }
  append_finish(out, choice);
  if (shape_.return_token_ids) {
    out += R"(,"token_ids":)";
    append_ids(out, choice.token_ids());
  }
}

v1::Usage OpenAiWriter::total_usage() const {
  v1::Usage total;
  for (const v1::Usage& usage : usage_) {
    total.set_prompt_tokens(total.prompt_tokens() + usage.prompt_tokens());
    total.set_cached_tokens(total.cached_tokens() + usage.cached_tokens());
    total.set_completion_tokens(total.completion_tokens() + usage.completion_tokens());
  }
  return total;
}

template <typename Message>
bool OpenAiWriter::append_any_chunk(std::string& out, int call, const Message& message) {
  constexpr bool kChat = std::is_same_v<Message, v1::ChatStreamResponse>;
  if (message.has_usage()) usage_[call] = message.usage();
  if (chunk_head_.empty()) append_head(chunk_head_, message.model(), true);
  const bool first = !first_seen_[call];
  if (!first && !shows_anything(message, shape_.return_token_ids)) return false;
  first_seen_[call] = true;
  out += chunk_head_;
  for (int i = 0; i < message.choices_size(); ++i) {
    if (i > 0) out += ',';
    append_choice(out, call, message.choices(i), true, first);
    if (!kChat && first && shape_.return_token_ids) {
      out += R"(,"prompt_token_ids":)";
      append_ids(out, message.prompt_token_ids());
    }
    if (!kChat && message.prompt_logprobs_size() > 0) {
      out += R"(,"prompt_logprobs":)";
      append_prompt_logprobs(out, message.prompt_logprobs());
    }
    out += '}';
  }
  out += ']';
  if (kChat && first && shape_.return_token_ids) {
    out += R"(,"prompt_token_ids":)";
    append_ids(out, message.prompt_token_ids());
  }
  if (kChat && message.prompt_logprobs_size() > 0) {
    out += R"(,"prompt_logprobs":)";
    append_prompt_logprobs(out, message.prompt_logprobs());
  }
  if (shape_.continuous_usage) {
    out += R"(,"usage":)";
    append_usage(out, total_usage());
  }
  out += '}';
  return true;
}

bool OpenAiWriter::append_chunk(std::string& out, int call,
                                const v1::CompleteStreamResponse& message) {
  return append_any_chunk(out, call, message);
}
bool OpenAiWriter::append_chunk(std::string& out, int call, const v1::ChatStreamResponse& message) {
  return append_any_chunk(out, call, message);
}

void OpenAiWriter::append_usage_chunk(std::string& out) {
  if (chunk_head_.empty()) append_head(chunk_head_, "", true);
  out += chunk_head_;
  out += R"(],"usage":)";
  append_usage(out, total_usage());
  out += '}';
}

template <typename Message>
void OpenAiWriter::append_any_answer(std::string& out, const std::vector<Message>& messages) {
  constexpr bool kChat = std::is_same_v<Message, v1::ChatResponse>;
  append_head(out, messages.empty() ? std::string() : messages.front().model(), false);
  bool comma = false;
  for (size_t call = 0; call < messages.size(); ++call) {
    const Message& message = messages[call];
    usage_[call] = message.usage();
    for (const auto& choice : message.choices()) {
      if (comma) out += ',';
      comma = true;
      append_choice(out, static_cast<int>(call), choice, false, true);
      if constexpr (!kChat) {
        if (shape_.return_token_ids) {
          out += R"(,"prompt_token_ids":)";
          append_ids(out, message.prompt_token_ids());
        }
        if (shape_.prompt_logprobs) {
          out += R"(,"prompt_logprobs":)";
          append_prompt_logprobs(out, message.prompt_logprobs());
        }
      }
      out += '}';
    }
  }
  out += R"(],"usage":)";
  append_usage(out, total_usage());
  if constexpr (kChat) {
    if (shape_.return_token_ids) {
      out += R"(,"prompt_token_ids":)";
      append_ids(out, messages.front().prompt_token_ids());
    }
    if (shape_.prompt_logprobs) {
      out += R"(,"prompt_logprobs":)";
      append_prompt_logprobs(out, messages.front().prompt_logprobs());
    }
  }
  out += R"(,"system_fingerprint":null})";
}

void OpenAiWriter::append_answer(std::string& out,
                                 const std::vector<v1::CompleteResponse>& messages) {
  append_any_answer(out, messages);
}
void OpenAiWriter::append_answer(std::string& out, const std::vector<v1::ChatResponse>& messages) {
  append_any_answer(out, messages);
}

void append_usage(std::string& out, const v1::Usage& usage) {
  out += R"({"prompt_tokens":)";
  append_json_int(out, usage.prompt_tokens());
  out += R"(,"total_tokens":)";
  append_json_int(out, int64_t{usage.prompt_tokens()} + usage.completion_tokens());
  out += R"(,"completion_tokens":)";
  append_json_int(out, usage.completion_tokens());
  out += R"(,"prompt_tokens_details":{"cached_tokens":)";
  append_json_int(out, usage.cached_tokens());
  out += "}}";
}

}  // namespace pelton
