#include "server/chat_json.h"

#include <string>

#include <fmt/format.h>

#include "server/json_view.h"
#include "server/json_writer.h"

namespace pelton {
namespace {

constexpr int kMaxJsonDepth = 64;

std::string_view role_name(v1::Role role) {
  switch (role) {
    case v1::ROLE_SYSTEM:
      return "system";
    case v1::ROLE_DEVELOPER:
      return "developer";
    case v1::ROLE_ASSISTANT:
      return "assistant";
    case v1::ROLE_TOOL:
      return "tool";
    default:
      return "user";
  }
}

Status check_object(const std::string& field, const std::string& text) {
  if (check_json(text, kMaxJsonDepth).ok() && JsonView::root(text).is_object()) {
    return absl::OkStatus();
  }
  return invalid_field(field, "is not a JSON object of at most 64 levels");
}

void append_member(std::string& out, std::string_view key, std::string_view text) {
  if (text.empty()) return;
  out += fmt::format(", \"{}\": ", key);
  append_json_string(out, text);
}

// Templates of text models join strings, so the parts become one, a line each (as in vLLM).
std::string joined_text(const v1::ChatMessage& message) {
  std::string text;
  for (int i = 0; i < message.content_size(); ++i) {
    if (i > 0) text += '\n';
    text += message.content(i).text();
  }
  return text;
}

const std::string kNoArguments = "{}";

Status append_tool_calls(std::string& out, const v1::ChatMessage& message, std::string_view path) {
  if (message.tool_calls().empty()) return absl::OkStatus();
  out += ", \"tool_calls\": [";
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    const v1::ToolCall& call = message.tool_calls(i);
    // A call of a function without parameters may come without arguments.
    const std::string& arguments =
        call.arguments_json().empty() ? kNoArguments : call.arguments_json();
    PELTON_RETURN_IF_ERROR(
        check_object(fmt::format("{}.tool_calls[{}].arguments_json", path, i), arguments));
    if (i > 0) out += ", ";
    out += "{\"type\": \"function\"";
    append_member(out, "id", call.id());
    out += ", \"function\": {\"name\": ";
    append_json_string(out, call.name());
    append_member(out, "arguments", arguments);
    out += "}}";
  }
  out += ']';
  return absl::OkStatus();
}

Status append_message(std::string& out, const v1::ChatMessage& message, std::string_view path) {
  out += fmt::format("{{\"role\": \"{}\", \"content\": ", role_name(message.role()));
  append_json_string(out, joined_text(message));
  append_member(out, "name", message.name());
  append_member(out, "tool_call_id", message.tool_call_id());
  append_member(out, "reasoning_content", message.reasoning());
  PELTON_RETURN_IF_ERROR(append_tool_calls(out, message, path));
  out += '}';
  return absl::OkStatus();
}

Status append_tool(std::string& out, const v1::Tool& tool, std::string_view path) {
  out += "{\"type\": \"function\", \"function\": {\"name\": ";
  append_json_string(out, tool.name());
  append_member(out, "description", tool.description());
  if (!tool.parameters_json().empty()) {
    PELTON_RETURN_IF_ERROR(
        check_object(fmt::format("{}.parameters_json", path), tool.parameters_json()));
    out += fmt::format(", \"parameters\": {}", tool.parameters_json());
  }
  out += "}}";
  return absl::OkStatus();
}

}  // namespace

StatusOr<ChatInputs> chat_inputs(const v1::ChatRequest& request, std::string_view path) {
  const std::string prefix = path.empty() ? "" : fmt::format("{}.", path);
  ChatInputs inputs;
  inputs.messages_json += '[';
  for (int i = 0; i < request.messages_size(); ++i) {
    if (i > 0) inputs.messages_json += ", ";
    PELTON_RETURN_IF_ERROR(append_message(inputs.messages_json, request.messages(i),
                                          fmt::format("{}messages[{}]", prefix, i)));
  }
  inputs.messages_json += ']';
  if (!request.tools().empty()) {
    inputs.tools_json += '[';
    for (int i = 0; i < request.tools_size(); ++i) {
      if (i > 0) inputs.tools_json += ", ";
      PELTON_RETURN_IF_ERROR(
          append_tool(inputs.tools_json, request.tools(i), fmt::format("{}tools[{}]", prefix, i)));
    }
    inputs.tools_json += ']';
  }
  if (!request.template_kwargs_json().empty()) {
    PELTON_RETURN_IF_ERROR(check_object(fmt::format("{}template_kwargs_json", prefix),
                                        request.template_kwargs_json()));
    inputs.extra_kwargs_json = request.template_kwargs_json();
  }
  inputs.continue_final_message = request.continue_final_message();
  inputs.add_generation_prompt = request.has_add_generation_prompt()
                                     ? request.add_generation_prompt()
                                     : !request.continue_final_message();
  return inputs;
}

}  // namespace pelton
