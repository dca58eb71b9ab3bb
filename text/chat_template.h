// Renders a conversation with the model's own Jinja template and encodes it so that content can
// not forge control tokens. Immutable once made, safe from any thread; never on an I/O thread.
// Bounded by counts of instructions and output, and by the memory and the time of the thread that
// each render has; a template that goes over the latter two is not run again.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/ids.h"
#include "core/status.h"
#include "text/tokenizer.h"

namespace pelton {

// Everything that a template sees. JSON texts keep their order of keys; empty: absent.
struct ChatInputs {
  // An array of messages as transformers takes them: role, content (a string, or content parts),
  // tool_calls, tool_call_id, name, and whatever else the template knows.
  std::string messages_json;
  std::string tools_json;         // an array of {"type": "function", "function": {...}}
  std::string documents_json;     // an array
  std::string extra_kwargs_json;  // an object: further variables ("enable_thinking": false)
  bool add_generation_prompt = true;
  // The last message is begun, not ended: the text stops where its content does. Excludes
  // add_generation_prompt.
  bool continue_final_message = false;
  // tool_calls[].function.arguments given as a string that holds JSON becomes the value itself, as
  // templates expect; OpenAI's API has the string.
  bool parse_tool_arguments = true;
  // Seconds since the epoch for strftime_now (UTC); unset: now, in local time.
  std::optional<int64_t> now_unix_seconds;
};

struct ChatTemplateOptions {
  int64_t max_template_bytes = int64_t{1} << 20;
  int64_t max_input_bytes = int64_t{16} << 20;   // of all the JSON together
  int64_t max_output_bytes = int64_t{32} << 20;  // of the rendered text
  uint64_t fuel = 8'000'000;                     // template instructions; 64 bytes cost as one
  std::chrono::milliseconds max_time{30'000};    // of one render
};

class ChatTemplate {
 public:
  // The source out of a GGUF (tokenizer.chat_template) or a chat_template.jinja. `bos_token` and so
  // on are read from `tokenizer`, which must outlive this. INVALID_ARGUMENT: does not parse.
  static StatusOr<std::unique_ptr<ChatTemplate>> from_source(
      std::string_view source, const Tokenizer& tokenizer, const ChatTemplateOptions& options = {});

  // From a Hugging Face folder: chat_template.jinja where there is one (not empty), else the
  // config's chat_template: a string, or a list of named templates, of which "default" is used
  // and, where tools are given, "tool_use". `tokenizer_config_json` also gives bos_token and so on.
  // NOT_FOUND: neither has a template.
  static StatusOr<std::unique_ptr<ChatTemplate>> from_config(
      std::string_view tokenizer_config_json, std::string_view chat_template_jinja,
      const Tokenizer& tokenizer, const ChatTemplateOptions& options = {});

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // The prompt's ids. INVALID_ARGUMENT: malformed JSON, or the template refused (its own message,
  // reason CHAT_TEMPLATE_ERROR); RESOURCE_EXHAUSTED: over the time or output bound.
  StatusOr<std::vector<TokenId>> encode(const ChatInputs& inputs) const;

  // The text alone, equal to transformers' apply_chat_template(tokenize=False): for people and
  // tests; encoding it again would let content forge control tokens.
  StatusOr<std::string> render(const ChatInputs& inputs) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pelton
