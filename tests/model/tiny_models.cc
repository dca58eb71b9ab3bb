#include "tests/model/tiny_models.h"

#include <fstream>
#include <random>

#include "core/check.h"
#include "tests/support/temp_dir.h"

namespace pelton {

std::vector<TinyConfig> tiny_configs() {
  return {
      {"llama", R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 200,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
        "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "float32"})"},
      {"mistral", R"({"model_type": "mistral", "architectures": ["MistralForCausalLM"],
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 200,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "sliding_window": 8, "hidden_act": "silu", "tie_word_embeddings": false,
        "torch_dtype": "float32"})"},
      {"qwen2", R"({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 200,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "use_sliding_window": false, "hidden_act": "silu", "tie_word_embeddings": true,
        "torch_dtype": "float32"})"},
      {"qwen3", R"({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 200,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "hidden_act": "silu", "tie_word_embeddings": true, "attention_bias": false,
        "torch_dtype": "float32"})"},
      {"gemma3", R"({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"],
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 200,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0, "sliding_window": 8, "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 32, "hidden_activation": "gelu_pytorch_tanh",
        "final_logit_softcapping": 30.0, "tie_word_embeddings": true,
        "torch_dtype": "float32"})"},
      {"gpt2", R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"],
        "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_ctx": 256,
        "vocab_size": 200, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
        "torch_dtype": "float32"})"},
  };
}

std::string_view tiny_config(std::string_view name) {
  for (const TinyConfig& config : tiny_configs()) {
    if (config.name == name) return config.json;
  }
  PELTON_CHECK(false, "no tiny config of that name");
}

LoadOptions tiny_options() {
  LoadOptions options;
  options.load_format = LoadFormat::kDummy;
  options.dummy_dtype = DType::kF32;
  options.seed = 7;
  options.max_model_len = 128;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 128;
  options.block_size = 4;
  return options;
}

StatusOr<LoadedModel> load_tiny(std::string_view config_json, Backend& backend,
                                LoadOptions options) {
  const TempDir folder;
  std::ofstream(folder.path() / "config.json") << config_json;
  options.path = folder.path().string();
  return load_model(options, backend);
}

std::vector<TokenId> random_tokens(int count, int vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>(random() % vocab));
  return tokens;
}

}  // namespace pelton
