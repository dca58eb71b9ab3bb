// ModelConfig from GGUF metadata.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>

#include "model/architecture.h"
#include "model/config_fields.h"
#include "model/config_limits.h"
#include "model/formats/gguf.h"
#include "model/model_config.h"

namespace pelton {
namespace {

StatusOr<const Architecture*> choose_row(const GgufFile& file) {
  PELTON_ASSIGN_OR_RETURN(const auto type, file.get_string("general.type"));
  if (type && *type != "model") {
    return unsupported_field("general.type", fmt::format("\"{:.64}\" is not a model", *type));
  }
  PELTON_ASSIGN_OR_RETURN(const auto splits, file.get_int("split.count"));
  if (splits.value_or(1) > 1) {
    return unsupported_field("split.count", "a model split over several files is not supported");
  }
  PELTON_ASSIGN_OR_RETURN(const auto name, file.get_string("general.architecture"));
  if (!name) return invalid_field("general.architecture", "missing");
  const Architecture* row = find_architecture(*name);
  if (row != nullptr) return row;
  std::string known;
  for (const Architecture& other : architectures()) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", other.name);
  }
  return unsupported_field("general.architecture",
                           fmt::format("\"{:.64}\" is none of {}", *name, known));
}

Status read_sizes(const Architecture& row, const GgufFile& file, const GgufFields& fields,
                  ModelConfig& config) {
  int experts = 0;
  PELTON_RETURN_IF_ERROR(fields.read_int("expert_count", 0, INT32_MAX, experts));
  if (experts > 0) {
    return fields.unsupported("expert_count", "mixtures of experts are not supported");
  }
  PELTON_RETURN_IF_ERROR(fields.need_int("block_count", 1, kMaxLayers, config.num_layers));
  PELTON_RETURN_IF_ERROR(fields.need_int("embedding_length", 1, kMaxHidden, config.hidden_size));
  PELTON_RETURN_IF_ERROR(fields.need_int("attention.head_count", 1, kMaxHeads, config.num_heads));
  PELTON_RETURN_IF_ERROR(fields.need_int("attention.head_count_kv", 1, kMaxHeads,
                                         config.num_kv_heads, config.num_heads));
  const bool whole = config.hidden_size % config.num_heads == 0;
  PELTON_RETURN_IF_ERROR(fields.need_int("attention.key_length", 1, kMaxHeadDim, config.head_dim,
                                         whole ? config.hidden_size / config.num_heads : 0));
  int value_length = config.head_dim;
  PELTON_RETURN_IF_ERROR(fields.read_int("attention.value_length", 1, kMaxHeadDim, value_length));
  if (value_length != config.head_dim) {
    return fields.unsupported("attention.value_length", "values as wide as keys are supported");
  }
  PELTON_RETURN_IF_ERROR(
      fields.need_int("feed_forward_length", 1, kMaxIntermediate, config.intermediate_size));
  PELTON_RETURN_IF_ERROR(fields.need_int("context_length", 1, kMaxPositions, config.max_positions));
  double eps = 0.0;
  PELTON_RETURN_IF_ERROR(fields.need_double(row.norm == NormKind::kRms
                                                ? "attention.layer_norm_rms_epsilon"
                                                : "attention.layer_norm_epsilon",
                                            1e-12, 0.1, eps));
  config.norm_eps = static_cast<float>(eps);

  // The embedding's rows are the vocabulary, whether or not a tokenizer is in the file.
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return invalid_field("token_embd.weight", "missing, or not of two dimensions");
  }
  if (embedding->shape[0] > kMaxVocab) {
    return invalid_field("token_embd.weight",
                         fmt::format("{} rows are more than {}", embedding->shape[0], kMaxVocab));
  }
  config.vocab_size = static_cast<int>(embedding->shape[0]);
  config.dtype = embedding->dtype;
  return absl::OkStatus();
}

Status read_rope(const Architecture& row, const GgufFile& file, const GgufFields& fields,
                 ModelConfig& config) {
  int rotary = config.head_dim;
  PELTON_RETURN_IF_ERROR(fields.read_int("rope.dimension_count", 0, kMaxHeadDim, rotary));
  if (rotary != config.head_dim && row.position == PositionKind::kRope) {
    return fields.unsupported("rope.dimension_count", "only whole heads are rotated");
  }
  config.rope.theta = row.defaults.rope_theta;
  PELTON_RETURN_IF_ERROR(
      fields.read_double("rope.freq_base", kMinTheta, kMaxTheta, config.rope.theta));
  RopeScaling& scaling = config.rope.scaling;
  PELTON_ASSIGN_OR_RETURN(const auto kind, fields.get_string("rope.scaling.type"));
  if (kind) {
    PELTON_ASSIGN_OR_RETURN(scaling.kind, rope_scaling_kind(fields, "rope.scaling.type", *kind));
    if (scaling.kind == RopeScalingKind::kLlama3) {
      return fields.unsupported("rope.scaling.type", "llama3 is given by rope_freqs.weight");
    }
  } else if (file.find(fields.full_name("rope.scale_linear")) != nullptr) {  // older files
    scaling.kind = RopeScalingKind::kLinear;
    return fields.need_double("rope.scale_linear", 1.0, kMaxFactor, scaling.factor);
  }
  const RopeScalingNames names = {.factor = "rope.scaling.factor",
                                  .original_max_positions = "rope.scaling.original_context_length",
                                  .beta_fast = "rope.scaling.yarn_beta_fast",
                                  .beta_slow = "rope.scaling.yarn_beta_slow"};
  PELTON_RETURN_IF_ERROR(read_rope_scaling(fields, names, config.max_positions, scaling));
  if (scaling.kind == RopeScalingKind::kYarn) {
    // Unlike config.json's attention_factor, this one multiplies what the paper gives.
    double factor = 1.0;
    PELTON_RETURN_IF_ERROR(fields.read_double("rope.scaling.attn_factor", 1e-3, 1e3, factor));
    scaling.attention_factor *= factor;
  }
  return absl::OkStatus();
}

Status read_rope_factors(const GgufFile& file, ModelConfig& config) {
  const GgufTensor* tensor = file.find_tensor("rope_freqs.weight");
  if (tensor == nullptr) return absl::OkStatus();
  const int64_t pairs = config.head_dim / 2;
  if (tensor->dtype != DType::kF32 || tensor->shape != std::vector<int64_t>{pairs}) {
    return invalid_field("rope_freqs.weight", fmt::format("not {} values of F32", pairs));
  }
  config.rope.freq_factors.resize(static_cast<size_t>(pairs));
  std::memcpy(config.rope.freq_factors.data(), tensor->data.data(), tensor->data.size());
  for (const float factor : config.rope.freq_factors) {
    if (!(factor >= 1e-3F && factor <= 1e6F)) {
      return invalid_field("rope_freqs.weight", "a factor is not within 0.001 .. 1000000");
    }
  }
  return absl::OkStatus();
}

Status read_local_rope(const Architecture& row, const GgufFields& fields, ModelConfig& config) {
  config.local_rope = config.rope;
  if (row.defaults.local_rope_theta == 0.0) return absl::OkStatus();
  config.local_rope = RopeConfig();
  config.local_rope.theta = row.defaults.local_rope_theta;
  return fields.read_double("rope.freq_base_swa", kMinTheta, kMaxTheta, config.local_rope.theta);
}

Status read_windows(const Architecture& row, const GgufFile& file, const GgufFields& fields,
                    ModelConfig& config) {
  const auto num_layers = static_cast<size_t>(config.num_layers);
  config.window_layer.assign(num_layers, 0);
  PELTON_RETURN_IF_ERROR(
      fields.read_int("attention.sliding_window", 0, kMaxPositions, config.sliding_window));
  int pattern = row.defaults.window_pattern;
  if (config.sliding_window == 0 && pattern == 0) return absl::OkStatus();

  constexpr std::string_view kPattern = "attention.sliding_window_pattern";
  const GgufValue* layers = file.find(fields.full_name(kPattern));
  // Families in which config.json switches the window on by a flag of its own: it is off.
  if (layers == nullptr && row.model_types.front().window == WindowRule::kFrom) {
    return absl::OkStatus();
  }
  if (layers != nullptr && layers->type == GgufType::kArray) {
    if (layers->count != num_layers) return fields.invalid(kPattern, "not one entry a layer");
    for (size_t layer = 0; layer < num_layers; ++layer) {
      const std::optional<int64_t> inside = layers->as_int(layer);
      if (!inside) return fields.invalid(kPattern, "not an array of bools");
      config.window_layer[layer] = *inside != 0 ? 1 : 0;
    }
    return absl::OkStatus();
  }
  PELTON_RETURN_IF_ERROR(fields.read_int(kPattern, 0, kMaxLayers, pattern));
  for (size_t layer = 0; layer < num_layers; ++layer) {
    const bool full = pattern > 0 && (layer + 1) % static_cast<size_t>(pattern) == 0;
    config.window_layer[layer] = full ? 0 : 1;
  }
  return absl::OkStatus();
}

Status read_attention(const Architecture& row, const GgufFile& file, const GgufFields& fields,
                      ModelConfig& config) {
  double query_scale = config.head_dim;
  // gemma3's largest model alone does not scale by its head size, and no key says so.
  constexpr int kLayersOf27B = 62;
  if (row.defaults.query_scale > 0.0 && config.num_layers == kLayersOf27B) {
    query_scale = static_cast<double>(config.hidden_size) / config.num_heads;
  }
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(query_scale));
  PELTON_RETURN_IF_ERROR(fields.read_float("attention.scale", 1e-6, 1e6, config.attention_scale));
  PELTON_RETURN_IF_ERROR(
      fields.read_float("attn_logit_softcapping", 1e-3, 1e6, config.attention_softcap));
  PELTON_RETURN_IF_ERROR(
      fields.read_float("final_logit_softcapping", 1e-3, 1e6, config.final_logit_softcap));
  const auto has = [&](std::string_view name) { return file.find_tensor(name) != nullptr; };
  config.qkv_bias = row.qkv_bias || (row.optional_biases && has("blk.0.attn_q.bias"));
  config.o_bias = row.o_bias || (row.optional_biases && has("blk.0.attn_output.bias"));
  config.mlp_bias = row.mlp_bias || (row.optional_biases && has("blk.0.ffn_up.bias"));
  config.tie_embeddings = !has("output.weight");
  return absl::OkStatus();
}

Status read_special_ids(const GgufFile& file, ModelConfig& config) {
  const auto vocab = static_cast<size_t>(config.vocab_size);
  PELTON_ASSIGN_OR_RETURN(const auto tokens, file.get_strings("tokenizer.ggml.tokens"));
  if (tokens.size() > vocab) {
    return invalid_field("tokenizer.ggml.tokens",
                         fmt::format("{} tokens for {} embeddings", tokens.size(), vocab));
  }
  const GgufFields fields(file, "tokenizer.ggml.");
  for (const std::string_view key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    int id = -1;
    PELTON_RETURN_IF_ERROR(fields.read_int(key, 0, kMaxVocab - 1, id));
    if (id >= 0) config.eos_ids.push_back(id);
  }
  PELTON_RETURN_IF_ERROR(fields.read_int("bos_token_id", 0, kMaxVocab - 1, config.bos_id));
  // Many files name one end alone, though their chat template ends turns with another.
  constexpr std::array<std::string_view, 3> kEndsOfTurn = {"<|im_end|>", "<|eot_id|>",
                                                           "<end_of_turn>"};
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (std::ranges::find(kEndsOfTurn, tokens[id]) != kEndsOfTurn.end()) {
      config.eos_ids.push_back(static_cast<TokenId>(id));
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<ModelConfig> model_config_from_gguf(const GgufFile& file) {
  PELTON_ASSIGN_OR_RETURN(const Architecture* row, choose_row(file));
  const GgufFields fields(file, fmt::format("{}.", row->name));
  ModelConfig config;
  config.architecture = row->name;
  config.activation = row->defaults.activation;
  PELTON_RETURN_IF_ERROR(read_sizes(*row, file, fields, config));
  PELTON_RETURN_IF_ERROR(read_rope(*row, file, fields, config));
  PELTON_RETURN_IF_ERROR(read_rope_factors(file, config));
  PELTON_RETURN_IF_ERROR(read_local_rope(*row, fields, config));
  PELTON_RETURN_IF_ERROR(read_windows(*row, file, fields, config));
  PELTON_RETURN_IF_ERROR(read_attention(*row, file, fields, config));
  PELTON_RETURN_IF_ERROR(read_special_ids(file, config));
  PELTON_RETURN_IF_ERROR(finish_config(*row, config));
  return config;
}

}  // namespace pelton
