// A model's tokenizer and chat template, out of its GGUF file or its Hugging Face folder.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/formats/gguf.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace pelton {

// Either may be null: a folder without a tokenizer, a model without a template.
struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;
  std::vector<std::string>
      warnings;  // a template that does not parse costs the chat, not the model
};

StatusOr<ModelText> text_from_gguf(const GgufFile& file);
// tokenizer.json, tokenizer_config.json, chat_template.jinja of the folder; each may be absent.
StatusOr<ModelText> text_from_folder(const std::string& folder);

}  // namespace pelton
