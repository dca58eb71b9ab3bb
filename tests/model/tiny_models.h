// One small config.json an architecture, for models of dummy weights.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/load.h"

namespace pelton {

struct TinyConfig {
  std::string_view name;
  std::string_view json;
};
// llama with llama3 rope scaling and grouped heads, mistral's window, qwen2, qwen3, gemma3, gpt2.
std::vector<TinyConfig> tiny_configs();
std::string_view tiny_config(std::string_view name);

// Small limits that tests start from: 16 logit rows a call, blocks of 4 tokens.
LoadOptions tiny_options();
// Dummy weights (f32) for that config.json.
StatusOr<LoadedModel> load_tiny(std::string_view config_json, Backend& backend,
                                LoadOptions options = tiny_options());

// `count` ids below `vocab`, the same for the same seed.
std::vector<TokenId> random_tokens(int count, int vocab, uint32_t seed);

}  // namespace pelton
