// Reads tests/goldens/text: JSON files, and the tiny tokenizers in both of their forms.
#pragma once

#include <boost/json/value.hpp>
#include <memory>
#include <string>
#include <vector>

#include "core/ids.h"
#include "text/tokenizer.h"

namespace pelton::text_test {

inline const std::vector<std::string> kTinyTokenizers = {"bpe_gpt2", "bpe_llama3", "bpe_qwen2",
                                                         "sp_llama", "sp_gemma"};

std::string golden_path(const std::string& name);  // below tests/goldens/text
std::string read_file(const std::string& path);
boost::json::value golden_json(const std::string& name);

std::string string_of(const boost::json::value& value);
std::vector<TokenId> ids_of(const boost::json::value& value);

// Copies a GGUF file's tokenizer fields; fails the test where the file does not parse.
GgufTokenizerFields gguf_fields(const std::string& path);

std::unique_ptr<Tokenizer> tokenizer_from_json(const std::string& name);
std::unique_ptr<Tokenizer> tokenizer_from_gguf(const std::string& path);

// The demo model's tokenizer; null, with a warning, where the model is absent.
std::unique_ptr<Tokenizer> smollm2_tokenizer();

}  // namespace pelton::text_test
