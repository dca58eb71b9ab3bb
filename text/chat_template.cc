#include "text/chat_template.h"

#include <fmt/format.h>

#include <ctime>

#include "text/ffi_util.h"
#include "text/tokenizer_impl.h"

namespace pelton {

using text_internal::check_text;
using text_internal::slice;
using text_internal::take;
using text_internal::to_status;

struct ChatTemplate::Impl {
  PeltonTemplate* handle = nullptr;
  const Tokenizer& tokenizer;
  ChatTemplateOptions options;

  Impl(const Tokenizer& t, const ChatTemplateOptions& o) : tokenizer(t), options(o) {}
  ~Impl() { pelton_template_free(handle); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // `mark`: 0 where none was asked for.
  StatusOr<std::string> render(const ChatInputs& inputs, bool mark_control_tokens,
                               char32_t& mark) const;
};

namespace {

size_t format_time(int64_t seconds, uint8_t fixed, const char* format, size_t size, char* out,
                   size_t capacity) {
  const std::time_t now = fixed != 0 ? static_cast<std::time_t>(seconds) : std::time(nullptr);
  std::tm parts{};
  const bool ok =
      fixed != 0 ? gmtime_r(&now, &parts) != nullptr : localtime_r(&now, &parts) != nullptr;
  if (!ok || size > capacity / 2) return 0;
  return std::strftime(out, capacity, std::string(format, size).c_str(), &parts);
}

Status check_inputs(const ChatInputs& inputs, int64_t limit) {
  int64_t total = 0;
  const std::pair<std::string_view, const std::string&> parts[] = {
      {"messages", inputs.messages_json},
      {"tools", inputs.tools_json},
      {"documents", inputs.documents_json},
      {"template arguments", inputs.extra_kwargs_json},
  };
  for (const auto& [name, json] : parts) {
    PELTON_RETURN_IF_ERROR(check_text(json, limit - total, name));
    total += static_cast<int64_t>(json.size());
  }
  if (inputs.continue_final_message && inputs.add_generation_prompt) {
    return absl::InvalidArgumentError(
        "continue_final_message and add_generation_prompt exclude each other");
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::string> ChatTemplate::Impl::render(const ChatInputs& inputs, bool mark_control_tokens,
                                                 char32_t& mark) const {
  PELTON_RETURN_IF_ERROR(check_inputs(inputs, options.max_input_bytes));
  PeltonRenderInputs raw{};
  raw.messages = slice(inputs.messages_json);
  raw.tools = slice(inputs.tools_json);
  raw.documents = slice(inputs.documents_json);
  raw.extra = slice(inputs.extra_kwargs_json);
  raw.add_generation_prompt = inputs.add_generation_prompt;
  raw.continue_final_message = inputs.continue_final_message;
  raw.parse_tool_arguments = inputs.parse_tool_arguments;
  raw.mark_control_tokens = mark_control_tokens;
  raw.strftime = format_time;
  raw.now_unix_seconds = inputs.now_unix_seconds.value_or(0);
  raw.now_is_set = inputs.now_unix_seconds.has_value();
  PeltonBuffer text{};
  PeltonBuffer error{};
  uint32_t chosen = 0;
  const int32_t code = pelton_template_render(handle, &raw, &text, &chosen, &error);
  if (code != 0) return to_status(code, error);
  mark = chosen;
  return take(text);
}

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::from_source(
    std::string_view source, const Tokenizer& tokenizer, const ChatTemplateOptions& options) {
  if (source.empty()) return absl::NotFoundError("the model has no chat template");
  return from_config({}, source, tokenizer, options);
}

StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::from_config(
    std::string_view tokenizer_config_json, std::string_view chat_template_jinja,
    const Tokenizer& tokenizer, const ChatTemplateOptions& options) {
  PELTON_RETURN_IF_ERROR(
      check_text(chat_template_jinja, options.max_template_bytes, "chat template"));
  PELTON_RETURN_IF_ERROR(check_text(tokenizer_config_json, tokenizer.impl_->options.max_file_bytes,
                                    "tokenizer_config.json"));
  auto impl = std::make_unique<Impl>(tokenizer, options);
  const PeltonTemplateLimits limits = {options.fuel,
                                       static_cast<uint64_t>(options.max_time.count()),
                                       static_cast<size_t>(options.max_output_bytes)};
  PeltonBuffer error{};
  const int32_t code =
      pelton_template_new(tokenizer.impl_->handle, slice(chat_template_jinja),
                          slice(tokenizer_config_json), &limits, &impl->handle, &error);
  if (code != 0) return to_status(code, error);
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(impl)));
}

StatusOr<std::vector<TokenId>> ChatTemplate::encode(const ChatInputs& inputs) const {
  char32_t mark = 0;
  PELTON_ASSIGN_OR_RETURN(const std::string text, impl_->render(inputs, true, mark));
  return impl_->tokenizer.encode_marked(text, mark);
}

StatusOr<std::string> ChatTemplate::render(const ChatInputs& inputs) const {
  char32_t mark = 0;
  return impl_->render(inputs, false, mark);
}

}  // namespace pelton
