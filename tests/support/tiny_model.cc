#include "tests/support/tiny_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "backend/random_blocks.h"
#include "core/check.h"

namespace pelton {
namespace {

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};

// The file's tensors, fused ones once, in order of their names.
std::vector<NamedShape> file_tensors(const Architecture& row, const FormatMap& map,
                                     const ModelConfig& config) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSource& source : map.tensors) {
    if (!has_tensor(row, config, source.role)) continue;
    const TensorShape shape = tensor_shape(source.role, config);
    const TensorRoleInfo& info = tensor_role_info(source.role);
    const bool fused = source.transform.fused_part >= 0;
    const int64_t features = fused         ? config.q_size() + 2 * config.kv_size()
                             : info.vector ? shape.cols
                                           : shape.rows;
    std::vector<int64_t> stored = {features};
    if (!info.vector) stored.push_back(shape.cols);
    if (source.transform.transpose) std::swap(stored[0], stored[1]);
    for (int layer = 0; layer < (info.per_layer ? config.num_layers : 1); ++layer) {
      const std::string name(source.name);
      const std::string prefix(source.outer ? map.outer_prefixes.front() : map.prefixes.front());
      shapes[prefix + fmt::format(fmt::runtime(name), layer)] = stored;
    }
  }
  std::vector<NamedShape> out;
  for (const auto& [name, shape] : shapes) out.push_back({name, shape});
  return out;
}

std::string random_floats(const std::string& name, const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  std::string out(static_cast<size_t>(count) * 4, '\0');
  SplitMix64 random(std::hash<std::string>()(name));
  random_elements(DType::kF32, count, 0.5F, random, reinterpret_cast<std::byte*>(out.data()));
  return out;
}

const Architecture& row_of(const std::string& architecture) {
  const Architecture* row = find_architecture(architecture);
  PELTON_CHECK(row != nullptr, "no such architecture");
  return *row;
}

}  // namespace

std::string tiny_config_json(const std::string& architecture) {
  if (architecture == "gpt2") {
    return R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2,
      "n_embd": 64, "n_head": 4, "n_inner": null, "n_positions": 128, "vocab_size": 96,
      "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "eos_token_id": 50256})";
  }
  const Architecture& row = row_of(architecture);
  return fmt::format(
      R"({{"model_type": "{}", "architectures": ["{}"], "num_hidden_layers": 2, "hidden_size": 64,
      "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 96,
      "intermediate_size": 128, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
      "rope_theta": 500000, "{}": "{}", "sliding_window": 32, "sliding_window_pattern": 2,
      "query_pre_attn_scalar": 16, "eos_token_id": [1, 3]}})",
      row.model_types.front().name, row.class_names.front(), row.names.activation,
      architecture == "gemma3" ? "gelu_pytorch_tanh" : "silu");
}

ModelConfig tiny_config(const std::string& architecture) {
  auto config = model_config_from_json(tiny_config_json(architecture));
  PELTON_CHECK(config.ok(), "the tiny config is not valid");
  return *config;
}

std::vector<SafetensorsItem> tiny_safetensors(const std::string& architecture) {
  const Architecture& row = row_of(architecture);
  std::vector<SafetensorsItem> items;
  for (const auto& [name, shape] : file_tensors(row, row.safetensors, tiny_config(architecture))) {
    items.push_back({name, "F32", shape, random_floats(name, shape)});
  }
  return items;
}

GgufWriter tiny_gguf(const std::string& architecture,
                     const std::vector<std::string>& first_tokens) {
  const Architecture& row = row_of(architecture);
  const ModelConfig config = tiny_config(architecture);
  const auto key = [&](const std::string& name) { return fmt::format("{}.{}", row.name, name); };
  GgufWriter writer;
  writer.add_string("general.architecture", architecture);
  writer.add_u32(key("block_count"), static_cast<uint32_t>(config.num_layers));
  writer.add_u32(key("embedding_length"), static_cast<uint32_t>(config.hidden_size));
  writer.add_u32(key("attention.head_count"), static_cast<uint32_t>(config.num_heads));
  writer.add_u32(key("attention.head_count_kv"), static_cast<uint32_t>(config.num_kv_heads));
  writer.add_u32(key("attention.key_length"), static_cast<uint32_t>(config.head_dim));
  writer.add_u32(key("attention.value_length"), static_cast<uint32_t>(config.head_dim));
  writer.add_u32(key("feed_forward_length"), static_cast<uint32_t>(config.intermediate_size));
  writer.add_u32(key("context_length"), static_cast<uint32_t>(config.max_positions));
  writer.add_f32(key(row.norm == NormKind::kRms ? "attention.layer_norm_rms_epsilon"
                                                : "attention.layer_norm_epsilon"),
                 config.norm_eps);
  writer.add_f32(key("rope.freq_base"), static_cast<float>(config.rope.theta));
  if (config.sliding_window > 0) {
    writer.add_u32(key("attention.sliding_window"), static_cast<uint32_t>(config.sliding_window));
    writer.add_u32(key("attention.sliding_window_pattern"), 2);
  }
  std::vector<std::string> tokens = first_tokens;
  for (int i = static_cast<int>(tokens.size()); i < config.vocab_size; ++i) {
    tokens.push_back(fmt::format("token{}", i));
  }
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_array<float>("tokenizer.ggml.scores", GgufType::kF32,
                          std::vector<float>(tokens.size(), 0.5F));
  writer.add_u32("tokenizer.ggml.eos_token_id", 1);
  writer.add_u32("tokenizer.ggml.eot_token_id", 3);
  for (const auto& [name, shape] : file_tensors(row, row.gguf, config)) {
    writer.add_tensor(name, 0, shape, random_floats(name, shape));
  }
  return writer;
}

}  // namespace pelton
