// The messages, tools and tool choice of a chat body.
#include <fmt/format.h>

#include <array>
#include <utility>

#include "server/openai_fields.h"
#include "server/validate_chat.h"

namespace pelton {
namespace {

constexpr std::array<std::pair<std::string_view, v1::Role>, 5> kRoles = {{
    {"system", v1::ROLE_SYSTEM},
    {"developer", v1::ROLE_DEVELOPER},
    {"user", v1::ROLE_USER},
    {"assistant", v1::ROLE_ASSISTANT},
    {"tool", v1::ROLE_TOOL},
}};

Status read_role(const std::string& path, JsonView value, v1::ChatMessage* message) {
  const auto role = value.string();
  for (const auto& [name, id] : kRoles) {
    if (role == name) {
      message->set_role(id);
      return absl::OkStatus();
    }
  }
  return wrong_type(path + ".role", "system, developer, user, assistant or tool");
}

// Media are named, never fetched or decoded here: the validator says what it can not take yet.
Status read_part(const std::string& path, JsonView value, v1::ContentPart* part) {
  if (value.is_string()) return read_string(path, value, part->mutable_text());
  const auto type = value["type"].string();
  if (!type) return wrong_type(path, "an object with a type");
  if (*type == "text" || *type == "input_text" || *type == "output_text") {
    return read_string(path + ".text", value["text"], part->mutable_text());
  }
  if (*type == "refusal") {
    return read_string(path + ".refusal", value["refusal"], part->mutable_text());
  }
  if (*type == "image_url" || *type == "input_image") {
    part->mutable_image()->set_media_type("image/*");
  } else if (*type == "input_audio" || *type == "audio_url") {
    part->mutable_audio()->set_media_type("audio/*");
  } else if (*type == "video_url") {
    part->mutable_video()->set_media_type("video/*");
  } else {
    return invalid_field(path + ".type", "is not a known kind of content");
  }
  return absl::OkStatus();
}

// `parts` counts those of the whole conversation, which are bounded while they are read.
Status read_content(const std::string& path, JsonView value, v1::ChatMessage* message, int* parts) {
  if (value.is_string()) {
    ++*parts;  // bounded by the number of messages
    return read_string(path, value, message->add_content()->mutable_text());
  }
  if (!value.is_array()) return wrong_type(path, "a string or an array of parts");
  Status status;
  int index = 0;
  value.for_each_element([&](JsonView part) {
    if (index >= kMaxChatMessages) {
      status = invalid_field(path, fmt::format("has more than {} parts", kMaxChatMessages));
    } else if (++*parts > kMaxContentParts) {
      status = invalid_field(
          path, fmt::format("takes the conversation beyond {} content parts", kMaxContentParts));
    } else {
      status = read_part(fmt::format("{}[{}]", path, index++), part, message->add_content());
    }
    return status.ok();
  });
  return status;
}

Status read_tool_calls(const std::string& path, JsonView value, v1::ChatMessage* message) {
  if (!value.is_array()) return wrong_type(path, "an array");
  Status status;
  value.for_each_element([&](JsonView element) {
    if (message->tool_calls_size() >= kMaxTools) {
      status = invalid_field(path, fmt::format("has more than {} entries", kMaxTools));
      return false;
    }
    const std::string item = fmt::format("{}[{}]", path, message->tool_calls_size());
    v1::ToolCall* call = message->add_tool_calls();
    const JsonView function = element["function"];
    if (element["id"].present()) {
      status = read_string(item + ".id", element["id"], call->mutable_id());
    }
    if (status.ok()) {
      status = read_string(item + ".function.name", function["name"], call->mutable_name());
    }
    if (function["arguments"].present())
      call->set_arguments_json(raw_or_string(function["arguments"]));
    return status.ok();
  });
  return status;
}

Status read_message(const std::string& path, JsonView value, v1::ChatMessage* message, int* parts) {
  if (!value.is_object()) return wrong_type(path, "an object");
  PELTON_RETURN_IF_ERROR(read_role(path, value["role"], message));
  if (const JsonView content = value["content"]; content.present()) {
    PELTON_RETURN_IF_ERROR(read_content(path + ".content", content, message, parts));
  }
  if (const JsonView name = value["name"]; name.present()) {
    PELTON_RETURN_IF_ERROR(read_string(path + ".name", name, message->mutable_name()));
  }
  if (const JsonView id = value["tool_call_id"]; id.present()) {
    PELTON_RETURN_IF_ERROR(
        read_string(path + ".tool_call_id", id, message->mutable_tool_call_id()));
  }
  for (const char* key : {"reasoning", "reasoning_content"}) {
    if (const JsonView text = value[key]; text.present()) {
      PELTON_RETURN_IF_ERROR(read_string(path + "." + key, text, message->mutable_reasoning()));
    }
  }
  if (const JsonView calls = value["tool_calls"]; calls.present()) {
    PELTON_RETURN_IF_ERROR(read_tool_calls(path + ".tool_calls", calls, message));
  }
  return absl::OkStatus();
}

Status read_tool(const std::string& path, JsonView value, v1::Tool* tool) {
  const auto type = value["type"].string();
  if (!type || *type != "function") return invalid_field(path + ".type", "must be function");
  const JsonView function = value["function"];
  if (!function.is_object()) return wrong_type(path + ".function", "an object");
  PELTON_RETURN_IF_ERROR(
      read_string(path + ".function.name", function["name"], tool->mutable_name()));
  if (const JsonView text = function["description"]; text.present()) {
    PELTON_RETURN_IF_ERROR(
        read_string(path + ".function.description", text, tool->mutable_description()));
  }
  if (const JsonView schema = function["parameters"]; schema.present()) {
    if (!schema.is_object()) return wrong_type(path + ".function.parameters", "an object");
    tool->set_parameters_json(std::string(schema.raw()));
  }
  if (const JsonView flag = function["strict"]; flag.present()) {
    bool strict = false;
    PELTON_RETURN_IF_ERROR(read_bool(path + ".function.strict", flag, &strict));
    tool->set_strict(strict);
  }
  return absl::OkStatus();
}

}  // namespace

Status read_messages(std::string_view name, JsonView value, Draft& draft) {
  if (!value.is_array()) return wrong_type(name, "an array");
  Status status;
  value.for_each_element([&](JsonView element) {
    const int index = draft.chat->messages_size();
    if (index >= kMaxChatMessages) {
      status = invalid_field(name, fmt::format("has more than {} messages", kMaxChatMessages));
    } else {
      status = read_message(fmt::format("{}[{}]", name, index), element, draft.chat->add_messages(),
                            &draft.content_parts);
    }
    return status.ok();
  });
  return status;
}

Status read_tools(std::string_view name, JsonView value, Draft& draft) {
  if (!value.is_array()) return wrong_type(name, "an array");
  Status status;
  value.for_each_element([&](JsonView element) {
    const int index = draft.chat->tools_size();
    if (index >= kMaxTools) {
      status = invalid_field(name, fmt::format("has more than {} tools", kMaxTools));
    } else {
      status = read_tool(fmt::format("{}[{}]", name, index), element, draft.chat->add_tools());
    }
    return status.ok();
  });
  return status;
}

Status read_tool_choice(std::string_view name, JsonView value, Draft& draft) {
  v1::ToolChoice* choice = draft.chat->mutable_tool_choice();
  if (value.is_object()) {
    return read_string("tool_choice.function.name", value["function"]["name"],
                       choice->mutable_function_name());
  }
  const auto mode = value.string();
  if (mode == "none") {
    choice->set_mode(v1::TOOL_CHOICE_MODE_NONE);
  } else if (mode == "auto") {
    choice->set_mode(v1::TOOL_CHOICE_MODE_AUTO);
  } else if (mode == "required") {
    choice->set_mode(v1::TOOL_CHOICE_MODE_REQUIRED);
  } else {
    return wrong_type(name, "none, auto, required or a function");
  }
  return absl::OkStatus();
}

}  // namespace pelton
