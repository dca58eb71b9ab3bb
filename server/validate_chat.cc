#include "server/validate_chat.h"

#include <fmt/format.h>

#include <algorithm>

namespace pelton {
namespace {

constexpr int kMaxMessages = 4096;
constexpr int kMaxMessageParts = 1024;
constexpr int kMaxToolCalls = 128;
constexpr int kMaxTools = 128;
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxToolNameBytes = 64;
constexpr size_t kMaxSchemaBytes = size_t{256} << 10;
constexpr size_t kMaxTemplateKwargsBytes = size_t{64} << 10;

bool is_tool_name(const std::string& name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= kMaxToolNameBytes &&
         std::all_of(name.begin(), name.end(), allowed);
}
constexpr char kToolNameRule[] = "must be 1 to 64 of a-z, A-Z, 0-9, _ and -";

void check_part(const v1::ContentPart& part, const FieldCheck& check) {
  check.require("", part.part_case() != v1::ContentPart::PART_NOT_SET, "has no part that is known");
  check.unbuilt("image", part.has_image());
  check.unbuilt("audio", part.has_audio());
  check.unbuilt("video", part.has_video());
}

void check_message(const v1::ChatMessage& message, const FieldCheck& check) {
  const bool assistant = message.role() == v1::ROLE_ASSISTANT;
  check.require("role", message.role() != v1::ROLE_UNSPECIFIED && v1::Role_IsValid(message.role()),
                "must be one of SYSTEM, DEVELOPER, USER, ASSISTANT, TOOL");
  check.count("content", message.content_size(), kMaxMessageParts);
  check.require("content", !message.content().empty() || assistant,
                "only an assistant's message may be without");
  for (int i = 0; i < message.content_size(); ++i) {
    check_part(message.content(i), check.in("content", i));
  }
  check.bytes("name", message.name(), kMaxNameBytes);
  check.count("tool_calls", message.tool_calls_size(), kMaxToolCalls);
  check.require("tool_calls", message.tool_calls().empty() || assistant,
                "only an assistant's message may have them");
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    const v1::ToolCall& call = message.tool_calls(i);
    const FieldCheck inner = check.in("tool_calls", i);
    inner.bytes("id", call.id(), kMaxNameBytes);
    inner.require("name", is_tool_name(call.name()), kToolNameRule);
  }
  check.bytes("tool_call_id", message.tool_call_id(), kMaxNameBytes);
  check.require("tool_call_id", message.tool_call_id().empty() || message.role() == v1::ROLE_TOOL,
                "only a tool's message may have one");
  check.require("reasoning", message.reasoning().empty() || assistant,
                "only an assistant's message may have it");
}

void check_tools(const v1::ChatRequest& request, const FieldCheck& check) {
  check.count("tools", request.tools_size(), kMaxTools);
  for (int i = 0; i < request.tools_size(); ++i) {
    const v1::Tool& tool = request.tools(i);
    const FieldCheck inner = check.in("tools", i);
    inner.require("name", is_tool_name(tool.name()), kToolNameRule);
    inner.bytes("parameters_json", tool.parameters_json(), kMaxSchemaBytes);
  }

  const FieldCheck choice = check.in("tool_choice");
  const v1::ToolChoiceMode mode = request.tool_choice().mode();
  const std::string& function = request.tool_choice().function_name();
  choice.require("mode", v1::ToolChoiceMode_IsValid(mode), "is not a known mode");
  choice.require("function_name",
                 function.empty() ||
                     std::any_of(request.tools().begin(), request.tools().end(),
                                 [&](const v1::Tool& tool) { return tool.name() == function; }),
                 "names none of the tools");
}

void check_response_format(const v1::ResponseFormat& format, const FieldCheck& check) {
  check.bytes("json_schema.schema_json", format.json_schema().schema_json(), kMaxSchemaBytes);
  check.bytes("json_schema.name", format.json_schema().name(), kMaxNameBytes);
  check.unbuilt("json_object", format.json_object());
  check.unbuilt("json_schema", format.has_json_schema());
}

void check_turn(const v1::ChatRequest& request, const FieldCheck& check) {
  if (!request.continue_final_message()) return;
  check.require("continue_final_message",
                !request.has_add_generation_prompt() || !request.add_generation_prompt(),
                "excludes add_generation_prompt");
  check.require(
      "continue_final_message",
      !request.messages().empty() && request.messages().rbegin()->role() == v1::ROLE_ASSISTANT,
      "the last message must be an assistant's");
}

size_t content_bytes(const v1::ChatRequest& request) {
  size_t bytes = 0;
  for (const v1::ChatMessage& message : request.messages()) {
    for (const v1::ContentPart& part : message.content()) bytes += part.text().size();
  }
  return bytes;
}

}  // namespace

void check_tool_calls(const v1::ChatRequest& request, const FieldCheck& check) {
  const FieldCheck choice = check.in("tool_choice");
  const v1::ToolChoiceMode mode = request.tool_choice().mode();
  const bool named = !request.tool_choice().function_name().empty();
  choice.unbuilt("function_name", named);
  const bool may_call = mode == v1::TOOL_CHOICE_MODE_REQUIRED ||
                        (!request.tools().empty() && mode != v1::TOOL_CHOICE_MODE_NONE && !named);
  choice.unbuilt("mode", may_call, "only NONE is built: tools are shown, and a call stays text");
}

void check_chat(const v1::ChatRequest& request, const ModelLimits& limits,
                const FieldCheck& check) {
  check.bytes("model", request.model(), kMaxNameBytes);
  check.require("model", limits.has_tokenizer && limits.has_chat_template,
                "this model has no chat template");
  check.require("messages", !request.messages().empty(), "at least one is needed");
  check.count("messages", request.messages_size(), kMaxMessages);
  int parts = 0;
  for (int i = 0; i < request.messages_size() && check.ok(); ++i) {
    const FieldCheck message = check.in("messages", i);
    check_message(request.messages(i), message);
    parts += request.messages(i).content_size();
    if (parts > kMaxContentParts) {
      message.invalid("content", fmt::format("takes the conversation beyond {} content parts",
                                             kMaxContentParts));
    }
  }
  check_tools(request, check);
  if (request.has_response_format()) {
    check_response_format(request.response_format(), check.in("response_format"));
  }
  check_turn(request, check);
  check.bytes("template_kwargs_json", request.template_kwargs_json(), kMaxTemplateKwargsBytes);
  check.bytes("adapter", request.adapter(), kMaxNameBytes);
  check.unbuilt("adapter", !request.adapter().empty());
  check.unbuilt("separate_reasoning", request.separate_reasoning());
  check_text_fits("messages", content_bytes(request), limits, check);
}

}  // namespace pelton
