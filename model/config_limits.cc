#include "model/config_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace pelton {

StatusOr<RopeScalingKind> rope_scaling_kind(const ConfigFields& fields, std::string_view key,
                                            std::string_view name) {
  if (name == "default" || name == "none") return RopeScalingKind::kNone;
  if (name == "linear") return RopeScalingKind::kLinear;
  if (name == "llama3") return RopeScalingKind::kLlama3;
  if (name == "yarn") return RopeScalingKind::kYarn;
  return fields.unsupported(
      key, fmt::format("\"{:.64}\" is none of default, linear, llama3, yarn", name));
}

Status read_rope_scaling(const ConfigFields& fields, const RopeScalingNames& names,
                         int max_positions, RopeScaling& scaling) {
  if (scaling.kind == RopeScalingKind::kNone) return absl::OkStatus();
  PELTON_RETURN_IF_ERROR(fields.need_double(names.factor, 1.0, kMaxFactor, scaling.factor));
  if (scaling.kind == RopeScalingKind::kLinear) return absl::OkStatus();

  const bool llama3 = scaling.kind == RopeScalingKind::kLlama3;
  PELTON_RETURN_IF_ERROR(fields.need_int(names.original_max_positions, 1, kMaxPositions,
                                         scaling.original_max_positions,
                                         llama3 ? 0 : max_positions));
  if (llama3) {
    PELTON_RETURN_IF_ERROR(
        fields.need_double("low_freq_factor", 1e-3, kMaxFactor, scaling.low_freq_factor));
    PELTON_RETURN_IF_ERROR(
        fields.need_double("high_freq_factor", 1e-3, kMaxFactor, scaling.high_freq_factor));
    if (scaling.high_freq_factor <= scaling.low_freq_factor) {
      return fields.invalid("high_freq_factor", "not above low_freq_factor");
    }
    return absl::OkStatus();
  }
  PELTON_RETURN_IF_ERROR(fields.read_double(names.beta_fast, 1e-3, kMaxFactor, scaling.beta_fast));
  PELTON_RETURN_IF_ERROR(fields.read_double(names.beta_slow, 1e-3, kMaxFactor, scaling.beta_slow));
  if (scaling.beta_fast < scaling.beta_slow) {
    return fields.invalid(names.beta_fast, "below beta_slow");
  }
  scaling.attention_factor = 0.1 * std::log(scaling.factor) + 1.0;
  return absl::OkStatus();
}

Status finish_config(const Architecture& architecture, ModelConfig& config) {
  if (config.num_heads % config.num_kv_heads != 0) {
    return invalid_field("num_key_value_heads", fmt::format("{} does not divide the {} heads",
                                                            config.num_kv_heads, config.num_heads));
  }
  if (config.q_size() > kMaxHidden) {
    return invalid_field("head_dim", fmt::format("{} heads of {} are more than {} in all",
                                                 config.num_heads, config.head_dim, kMaxHidden));
  }
  if (architecture.position == PositionKind::kRope && config.head_dim % 2 != 0) {
    return invalid_field("head_dim", fmt::format("{} is odd: rope needs pairs", config.head_dim));
  }
  const bool any_window = std::ranges::count(config.window_layer, 1) > 0;
  if (any_window && config.sliding_window <= 0) {
    return invalid_field("sliding_window", "missing, though layers attend within one");
  }
  if (!any_window) config.sliding_window = 0;
  if (architecture.scale_embedding) {
    config.embedding_scale = std::sqrt(static_cast<float>(config.hidden_size));
  }
  std::ranges::sort(config.eos_ids);
  const auto repeated = std::ranges::unique(config.eos_ids);
  config.eos_ids.erase(repeated.begin(), repeated.end());
  // Ids beyond the vocabulary can not be produced; tiny models keep their family's ids.
  std::erase_if(config.eos_ids, [&](TokenId id) { return id >= config.vocab_size; });
  if (config.bos_id >= config.vocab_size) config.bos_id = -1;
  return absl::OkStatus();
}

}  // namespace pelton
