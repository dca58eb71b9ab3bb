// ModelConfig from Hugging Face's config.json.
#include "model/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "model/architecture.h"
#include "model/config_fields.h"
#include "model/config_limits.h"
#include "model/formats/json.h"

namespace pelton {
namespace {

std::string known_model_types() {
  std::string names;
  for (const Architecture& row : architectures()) {
    for (const ModelType& type : row.model_types) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name);
    }
  }
  return names;
}

// The row that runs the model, by model_type; architectures[0] must be a class of that row.
StatusOr<const Architecture*> choose_row(const JsonFields& fields) {
  PELTON_ASSIGN_OR_RETURN(const auto model_type, fields.get_string("model_type"));
  if (!model_type) return fields.invalid("model_type", "missing");
  const Architecture* row = find_architecture_by_model_type(*model_type);
  if (row == nullptr) {
    return fields.unsupported(
        "model_type", fmt::format("\"{:.64}\" is none of {}", *model_type, known_model_types()));
  }
  PELTON_ASSIGN_OR_RETURN(const Json* classes, fields.get_array("architectures"));
  if (classes == nullptr || classes->empty()) return row;
  const std::optional<std::string_view> class_name = json_string(classes->front());
  if (!class_name) return fields.invalid("architectures", "not an array of strings");
  if (std::ranges::find(row->class_names, *class_name) == row->class_names.end()) {
    return fields.unsupported("architectures",
                              fmt::format("\"{:.64}\" is not supported", *class_name));
  }
  return row;
}

// Fields that change what the model computes, at a value that no row covers.
Status refuse_unsupported(const JsonFields& fields) {
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    if (fields.find(key) != nullptr) {
      return fields.unsupported(key, "quantised safetensors are not supported");
    }
  }
  for (const std::string_view key :
       {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"}) {
    int experts = 0;
    PELTON_RETURN_IF_ERROR(fields.read_int(key, 0, INT32_MAX, experts));
    if (experts > 0) return fields.unsupported(key, "mixtures of experts are not supported");
  }
  struct Flag {
    std::string_view key;
    bool wanted;
  };
  constexpr std::array<Flag, 6> kFlags = {{{"is_encoder_decoder", false},
                                           {"add_cross_attention", false},
                                           {"use_bidirectional_attention", false},
                                           {"scale_attn_weights", true},
                                           {"scale_attn_by_inverse_layer_idx", false},
                                           {"alibi", false}}};
  for (const Flag& flag : kFlags) {
    bool value = flag.wanted;
    PELTON_RETURN_IF_ERROR(fields.read_bool(flag.key, value));
    if (value != flag.wanted) {
      return fields.unsupported(flag.key, fmt::format("{} is not supported", value));
    }
  }
  double rotary = 1.0;
  PELTON_RETURN_IF_ERROR(fields.read_double("partial_rotary_factor", 0.0, 1.0, rotary));
  if (rotary != 1.0) return fields.unsupported("partial_rotary_factor", "only 1 is supported");
  return absl::OkStatus();
}

Status read_sizes(const Architecture& row, const JsonFields& fields, ModelConfig& config) {
  const ConfigNames& names = row.names;
  const ConfigDefaults& defaults = row.defaults;
  PELTON_RETURN_IF_ERROR(fields.need_int(names.layers, 1, kMaxLayers, config.num_layers));
  PELTON_RETURN_IF_ERROR(fields.need_int(names.hidden, 1, kMaxHidden, config.hidden_size));
  PELTON_RETURN_IF_ERROR(
      fields.need_int(names.heads, 1, kMaxHeads, config.num_heads, defaults.heads));
  const int kv_heads = defaults.kv_heads > 0 ? defaults.kv_heads : config.num_heads;
  PELTON_RETURN_IF_ERROR(
      fields.need_int("num_key_value_heads", 1, kMaxHeads, config.num_kv_heads, kv_heads));
  int head_dim = defaults.head_dim;
  if (head_dim == 0 && config.hidden_size % config.num_heads == 0) {
    head_dim = config.hidden_size / config.num_heads;
  }
  PELTON_RETURN_IF_ERROR(fields.need_int("head_dim", 1, kMaxHeadDim, config.head_dim, head_dim));
  // gpt2 leaves it out (n_inner null) where it is the usual four times hidden.
  PELTON_RETURN_IF_ERROR(fields.need_int(names.intermediate, 1, kMaxIntermediate,
                                         config.intermediate_size,
                                         row.gated_mlp ? 0 : 4 * config.hidden_size));
  PELTON_RETURN_IF_ERROR(
      fields.need_int("vocab_size", 1, kMaxVocab, config.vocab_size, defaults.vocab_size));
  PELTON_RETURN_IF_ERROR(fields.need_int(names.positions, 1, kMaxPositions, config.max_positions,
                                         defaults.max_positions));
  double eps = 0.0;
  PELTON_RETURN_IF_ERROR(fields.need_double(names.norm_eps, 1e-12, 0.1, eps, defaults.norm_eps));
  config.norm_eps = static_cast<float>(eps);
  return absl::OkStatus();
}

Status read_activation(const Architecture& row, const JsonFields& fields, ModelConfig& config) {
  PELTON_ASSIGN_OR_RETURN(const auto name, fields.get_string(row.names.activation));
  config.activation = row.defaults.activation;
  if (!name) return absl::OkStatus();
  if (*name == "silu" || *name == "swish") {
    config.activation = Activation::kSilu;
  } else if (*name == "gelu_new" || *name == "gelu_pytorch_tanh") {
    config.activation = Activation::kGeluTanh;
  } else if (*name == "gelu") {
    config.activation = Activation::kGeluErf;
  } else if (*name == "relu") {
    config.activation = Activation::kRelu;
  } else {
    return fields.unsupported(row.names.activation,
                              fmt::format("\"{:.64}\" is not supported", *name));
  }
  return absl::OkStatus();
}

// One object of rope parameters: rope_scaling, or rope_parameters of newer files with its theta.
Status read_rope_object(const JsonFields& fields, int max_positions, RopeConfig& rope) {
  PELTON_RETURN_IF_ERROR(fields.read_double("rope_theta", kMinTheta, kMaxTheta, rope.theta));
  double rotary = 1.0;
  PELTON_RETURN_IF_ERROR(fields.read_double("partial_rotary_factor", 0.0, 1.0, rotary));
  if (rotary != 1.0) return fields.unsupported("partial_rotary_factor", "only 1 is supported");

  const std::string_view key = fields.find("rope_type") != nullptr ? "rope_type" : "type";
  PELTON_ASSIGN_OR_RETURN(const auto kind, fields.get_string(key));
  if (!kind) return absl::OkStatus();
  RopeScaling& scaling = rope.scaling;
  PELTON_ASSIGN_OR_RETURN(scaling.kind, rope_scaling_kind(fields, key, *kind));
  PELTON_RETURN_IF_ERROR(read_rope_scaling(fields, {}, max_positions, scaling));
  if (scaling.kind != RopeScalingKind::kYarn) return absl::OkStatus();

  double mscale = 0.0;
  double mscale_all_dim = 0.0;
  PELTON_RETURN_IF_ERROR(fields.read_double("mscale", 0.0, 100.0, mscale));
  PELTON_RETURN_IF_ERROR(fields.read_double("mscale_all_dim", 0.0, 100.0, mscale_all_dim));
  if (mscale > 0.0 && mscale_all_dim > 0.0) {
    const double log_factor = 0.1 * std::log(scaling.factor);
    scaling.attention_factor = (mscale * log_factor + 1.0) / (mscale_all_dim * log_factor + 1.0);
  }
  PELTON_RETURN_IF_ERROR(
      fields.read_double("attention_factor", 1e-3, 1e3, scaling.attention_factor));
  return fields.read_bool("truncate", scaling.truncate);
}

Status read_rope(const Architecture& row, const JsonFields& fields, ModelConfig& config) {
  config.rope.theta = row.defaults.rope_theta;
  PELTON_RETURN_IF_ERROR(fields.read_double("rope_theta", kMinTheta, kMaxTheta, config.rope.theta));
  const bool second_base = row.defaults.local_rope_theta > 0.0;
  config.local_rope.theta = row.defaults.local_rope_theta;
  if (second_base) {
    PELTON_RETURN_IF_ERROR(
        fields.read_double("rope_local_base_freq", kMinTheta, kMaxTheta, config.local_rope.theta));
  }
  PELTON_ASSIGN_OR_RETURN(const Json* parameters, fields.get_object("rope_parameters"));
  PELTON_ASSIGN_OR_RETURN(const Json* scaling, fields.get_object("rope_scaling"));
  if (scaling != nullptr) {
    PELTON_RETURN_IF_ERROR(
        read_rope_object(JsonFields(*scaling, "rope_scaling."), config.max_positions, config.rope));
  }
  if (parameters != nullptr) {
    const JsonFields all(*parameters, "rope_parameters.");
    PELTON_ASSIGN_OR_RETURN(const Json* full, all.get_object("full_attention"));
    PELTON_ASSIGN_OR_RETURN(const Json* local, all.get_object("sliding_attention"));
    if (full == nullptr && local == nullptr) full = parameters;
    if (full != nullptr) {
      PELTON_RETURN_IF_ERROR(read_rope_object(JsonFields(*full, "rope_parameters."),
                                              config.max_positions, config.rope));
    }
    if (local != nullptr && second_base) {
      PELTON_RETURN_IF_ERROR(
          read_rope_object(JsonFields(*local, "rope_parameters.sliding_attention."),
                           config.max_positions, config.local_rope));
    }
  }
  if (!second_base) config.local_rope = config.rope;
  return absl::OkStatus();
}

// layer_types of newer files, one string a layer.
Status read_layer_types(const JsonFields& fields, const Json& types, ModelConfig& config) {
  if (types.size() != config.window_layer.size()) {
    return fields.invalid("layer_types",
                          fmt::format("{} entries for {} layers", types.size(), config.num_layers));
  }
  for (size_t layer = 0; layer < types.size(); ++layer) {
    const std::optional<std::string_view> type = json_string(types[layer]);
    if (!type) return fields.invalid("layer_types", "not an array of strings");
    config.window_layer[layer] = *type == "sliding_attention" ? 1 : 0;
    if (*type != "sliding_attention" && *type != "full_attention") {
      return fields.unsupported("layer_types", fmt::format("\"{:.64}\" is not supported", *type));
    }
  }
  return absl::OkStatus();
}

Status read_windows(const Architecture& row, const JsonFields& outer, const JsonFields& fields,
                    ModelConfig& config) {
  config.window_layer.assign(static_cast<size_t>(config.num_layers), 0);
  PELTON_ASSIGN_OR_RETURN(const auto model_type, outer.get_string("model_type"));
  const auto type = std::ranges::find(row.model_types, model_type.value_or(""), &ModelType::name);
  const WindowRule rule = type == row.model_types.end() ? WindowRule::kNone : type->window;
  bool use_window = true;
  if (rule == WindowRule::kNone) return absl::OkStatus();
  if (rule == WindowRule::kFrom) {
    use_window = false;
    PELTON_RETURN_IF_ERROR(fields.read_bool("use_sliding_window", use_window));
  }
  config.sliding_window = row.defaults.sliding_window;
  PELTON_RETURN_IF_ERROR(
      fields.read_int("sliding_window", 1, kMaxPositions, config.sliding_window));
  if (!use_window) config.sliding_window = 0;
  PELTON_ASSIGN_OR_RETURN(const Json* types, fields.get_array("layer_types"));
  if (types != nullptr) return read_layer_types(fields, *types, config);
  if (config.sliding_window == 0) return absl::OkStatus();

  int pattern = row.defaults.window_pattern;
  int first = 28;  // what the families with kFrom take where the file says nothing
  PELTON_RETURN_IF_ERROR(fields.read_int("sliding_window_pattern", 1, kMaxLayers, pattern));
  PELTON_RETURN_IF_ERROR(fields.read_int("_sliding_window_pattern", 1, kMaxLayers, pattern));
  PELTON_RETURN_IF_ERROR(fields.read_int("max_window_layers", 0, kMaxLayers, first));
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const bool inside = rule == WindowRule::kAll || (rule == WindowRule::kFrom && layer >= first) ||
                        (rule == WindowRule::kPattern && (layer + 1) % pattern != 0);
    config.window_layer[static_cast<size_t>(layer)] = inside ? 1 : 0;
  }
  return absl::OkStatus();
}

Status read_attention(const Architecture& row, const JsonFields& fields, ModelConfig& config) {
  double query_scale = row.defaults.query_scale > 0.0 ? row.defaults.query_scale : config.head_dim;
  if (row.defaults.query_scale > 0.0) {
    PELTON_RETURN_IF_ERROR(fields.read_double("query_pre_attn_scalar", 1e-6, 1e6, query_scale));
  }
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(query_scale));
  PELTON_RETURN_IF_ERROR(
      fields.read_float("attn_logit_softcapping", 1e-3, 1e6, config.attention_softcap));
  PELTON_RETURN_IF_ERROR(
      fields.read_float("final_logit_softcapping", 1e-3, 1e6, config.final_logit_softcap));

  bool attention_bias = false;
  bool mlp_bias = false;
  if (row.optional_biases) {
    PELTON_RETURN_IF_ERROR(fields.read_bool("attention_bias", attention_bias));
    PELTON_RETURN_IF_ERROR(fields.read_bool("mlp_bias", mlp_bias));
  }
  config.qkv_bias = row.qkv_bias || attention_bias;
  config.o_bias = row.o_bias || attention_bias;
  config.mlp_bias = row.mlp_bias || mlp_bias;
  return absl::OkStatus();
}

// One id or an array of them, added to `out`.
Status read_eos(const JsonFields& fields, std::vector<TokenId>& out) {
  const Json* value = fields.find("eos_token_id");
  if (value == nullptr) return absl::OkStatus();
  const size_t count = value->is_array() ? value->size() : 1;
  if (count > kMaxEosIds) return fields.invalid("eos_token_id", "more than 64 ids");
  for (size_t i = 0; i < count; ++i) {
    const std::optional<int64_t> id = json_int(value->is_array() ? (*value)[i] : *value);
    if (!id || *id < 0 || *id >= kMaxVocab) {
      return fields.invalid("eos_token_id", "not a token id");
    }
    out.push_back(static_cast<TokenId>(*id));
  }
  return absl::OkStatus();
}

Status read_dtype(const JsonFields& fields, ModelConfig& config) {
  const std::string_view key = fields.find("torch_dtype") != nullptr ? "torch_dtype" : "dtype";
  PELTON_ASSIGN_OR_RETURN(const auto name, fields.get_string(key));
  if (!name || *name == "float32") {
    config.dtype = DType::kF32;
  } else if (*name == "float16") {
    config.dtype = DType::kF16;
  } else if (*name == "bfloat16") {
    config.dtype = DType::kBF16;
  } else {
    return fields.unsupported(key, fmt::format("\"{:.64}\" is not supported", *name));
  }
  return absl::OkStatus();
}

// What stands beside text_config where the text model is nested in a larger one.
Status read_outer(const Architecture& row, const JsonFields& fields, ModelConfig& config) {
  PELTON_RETURN_IF_ERROR(read_eos(fields, config.eos_ids));
  PELTON_RETURN_IF_ERROR(fields.read_int("bos_token_id", 0, kMaxVocab - 1, config.bos_id));
  PELTON_RETURN_IF_ERROR(read_dtype(fields, config));
  config.tie_embeddings = row.defaults.tie_embeddings;
  return fields.read_bool("tie_word_embeddings", config.tie_embeddings);
}

}  // namespace

StatusOr<ModelConfig> model_config_from_json(std::string_view config_json,
                                             std::string_view generation_config_json) {
  PELTON_ASSIGN_OR_RETURN(const Json root, parse_json_object(config_json, "config.json", {}));
  const JsonFields outer(root);
  PELTON_ASSIGN_OR_RETURN(const Architecture* row, choose_row(outer));
  PELTON_ASSIGN_OR_RETURN(const Json* text, outer.get_object("text_config"));
  const JsonFields fields(text != nullptr ? *text : root, text != nullptr ? "text_config." : "");
  PELTON_RETURN_IF_ERROR(refuse_unsupported(outer));
  PELTON_RETURN_IF_ERROR(refuse_unsupported(fields));

  ModelConfig config;
  config.architecture = row->name;
  PELTON_RETURN_IF_ERROR(read_outer(*row, outer, config));
  if (text != nullptr) {
    PELTON_RETURN_IF_ERROR(read_eos(fields, config.eos_ids));
    PELTON_RETURN_IF_ERROR(fields.read_bool("tie_word_embeddings", config.tie_embeddings));
  }
  PELTON_RETURN_IF_ERROR(read_sizes(*row, fields, config));
  PELTON_RETURN_IF_ERROR(read_activation(*row, fields, config));
  PELTON_RETURN_IF_ERROR(read_rope(*row, fields, config));
  PELTON_RETURN_IF_ERROR(read_windows(*row, outer, fields, config));
  PELTON_RETURN_IF_ERROR(read_attention(*row, fields, config));
  if (!generation_config_json.empty()) {
    PELTON_ASSIGN_OR_RETURN(const Json generation, parse_json_object(generation_config_json,
                                                                     "generation_config.json", {}));
    PELTON_RETURN_IF_ERROR(read_eos(JsonFields(generation), config.eos_ids));
  }
  PELTON_RETURN_IF_ERROR(finish_config(*row, config));
  return config;
}

}  // namespace pelton
