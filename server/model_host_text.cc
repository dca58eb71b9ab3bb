#include "server/model_host_text.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <optional>

namespace pelton {
namespace {

constexpr int64_t kMaxTokenizerBytes = int64_t{128} << 20;
constexpr int64_t kMaxTextFileBytes = int64_t{16} << 20;

// "" where the file is absent.
StatusOr<std::string> read_optional(const std::filesystem::path& path, int64_t max_bytes) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return std::string();
  const std::string name = path.filename().string();
  if (static_cast<int64_t>(size) > max_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} bytes, at most {} are read", name, size, max_bytes));
  }
  std::string text(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return absl::UnavailableError(fmt::format("{}: cannot be read", name));
  }
  return text;
}

// Copies one optional key; a key of another type is an error that names it.
template <typename T, typename U>
Status copy_optional(const StatusOr<std::optional<T>>& read, std::optional<U>& out) {
  if (!read.ok()) return read.status();
  if (read->has_value()) out = **read;
  return absl::OkStatus();
}

Status copy_strings(const GgufFile& file, std::string_view key, std::vector<std::string>& out) {
  PELTON_ASSIGN_OR_RETURN(const auto views, file.get_strings(key));
  out.assign(views.begin(), views.end());
  return absl::OkStatus();
}

Status copy_string(const GgufFile& file, std::string_view key, std::string& out) {
  PELTON_ASSIGN_OR_RETURN(const auto text, file.get_string(key));
  if (text) out = std::string(*text);
  return absl::OkStatus();
}

StatusOr<GgufTokenizerFields> tokenizer_fields(const GgufFile& file) {
  GgufTokenizerFields fields;
  PELTON_RETURN_IF_ERROR(copy_string(file, "tokenizer.ggml.model", fields.model));
  PELTON_RETURN_IF_ERROR(copy_string(file, "tokenizer.ggml.pre", fields.pre));
  PELTON_RETURN_IF_ERROR(copy_strings(file, "tokenizer.ggml.tokens", fields.tokens));
  PELTON_RETURN_IF_ERROR(copy_strings(file, "tokenizer.ggml.merges", fields.merges));
  PELTON_ASSIGN_OR_RETURN(fields.scores, file.get_floats("tokenizer.ggml.scores"));
  PELTON_ASSIGN_OR_RETURN(fields.token_types, file.get_ints("tokenizer.ggml.token_type"));
  struct IdKey {
    std::string_view key;
    std::optional<int64_t>* out;
  };
  for (const auto& [key, out] : {
           IdKey{"tokenizer.ggml.bos_token_id", &fields.bos_token_id},
           IdKey{"tokenizer.ggml.eos_token_id", &fields.eos_token_id},
           IdKey{"tokenizer.ggml.unknown_token_id", &fields.unknown_token_id},
           IdKey{"tokenizer.ggml.padding_token_id", &fields.padding_token_id},
           IdKey{"tokenizer.ggml.eot_token_id", &fields.eot_token_id},
           IdKey{"tokenizer.ggml.eom_token_id", &fields.eom_token_id},
       }) {
    PELTON_RETURN_IF_ERROR(copy_optional(file.get_int(key), *out));
  }
  PELTON_RETURN_IF_ERROR(
      copy_optional(file.get_bool("tokenizer.ggml.add_bos_token"), fields.add_bos_token));
  PELTON_RETURN_IF_ERROR(
      copy_optional(file.get_bool("tokenizer.ggml.add_eos_token"), fields.add_eos_token));
  PELTON_RETURN_IF_ERROR(
      copy_optional(file.get_bool("tokenizer.ggml.add_space_prefix"), fields.add_space_prefix));
  return fields;
}

void take_template(StatusOr<std::unique_ptr<ChatTemplate>> chat_template, ModelText& text) {
  if (chat_template.ok()) {
    text.chat_template = *std::move(chat_template);
  } else if (!absl::IsNotFound(chat_template.status())) {
    text.warnings.push_back(fmt::format("no chat: the template is not usable: {}",
                                        std::string(chat_template.status().message())));
  }
}

}  // namespace

StatusOr<ModelText> text_from_gguf(const GgufFile& file) {
  ModelText text;
  PELTON_ASSIGN_OR_RETURN(const GgufTokenizerFields fields, tokenizer_fields(file));
  // Converters write either word for a file without a vocabulary.
  if (fields.model.empty() || fields.model == "no_vocab" || fields.model == "none") return text;
  PELTON_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::from_gguf(fields));
  std::string source;
  PELTON_RETURN_IF_ERROR(copy_string(file, "tokenizer.chat_template", source));
  if (!source.empty()) take_template(ChatTemplate::from_source(source, *text.tokenizer), text);
  return text;
}

StatusOr<ModelText> text_from_folder(const std::string& folder) {
  const std::filesystem::path root = folder;
  ModelText text;
  PELTON_ASSIGN_OR_RETURN(const std::string tokenizer,
                          read_optional(root / "tokenizer.json", kMaxTokenizerBytes));
  if (tokenizer.empty()) {
    text.warnings.push_back("no tokenizer.json: only token ids go in and out");
    return text;
  }
  PELTON_ASSIGN_OR_RETURN(const std::string config,
                          read_optional(root / "tokenizer_config.json", kMaxTextFileBytes));
  PELTON_ASSIGN_OR_RETURN(const std::string jinja,
                          read_optional(root / "chat_template.jinja", kMaxTextFileBytes));
  PELTON_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::from_json(tokenizer, config));
  take_template(ChatTemplate::from_config(config, jinja, *text.tokenizer), text);
  return text;
}

}  // namespace pelton
