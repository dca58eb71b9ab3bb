// The bounds of ModelConfig and the checks that span fields, for both readers of it.
#pragma once

#include <cstdint>
#include <string_view>

#include "model/architecture.h"
#include "model/config_fields.h"
#include "model/model_config.h"

namespace pelton {

inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHidden = 65536;
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMaxHeadDim = 512;  // what every backend's attention takes
inline constexpr int64_t kMaxIntermediate = 1 << 19;
inline constexpr int64_t kMaxVocab = 1 << 20;
inline constexpr int64_t kMaxPositions = 1 << 24;
inline constexpr double kMinTheta = 2.0;
inline constexpr double kMaxTheta = 1e12;
inline constexpr double kMaxFactor = 1e6;
inline constexpr size_t kMaxEosIds = 64;

// How a format spells the fields of one kind of scaling.
struct RopeScalingNames {
  std::string_view factor = "factor";
  std::string_view original_max_positions = "original_max_position_embeddings";
  std::string_view beta_fast = "beta_fast";
  std::string_view beta_slow = "beta_slow";
};

// "default" or "none", "linear", "llama3", "yarn"; else unsupported, naming `key`.
StatusOr<RopeScalingKind> rope_scaling_kind(const ConfigFields& fields, std::string_view key,
                                            std::string_view name);
// The parameters of scaling.kind. Yarn's attention factor is set to the paper's
// 0.1 ln(factor) + 1; what else the format says of it is the caller's.
Status read_rope_scaling(const ConfigFields& fields, const RopeScalingNames& names,
                         int max_positions, RopeScaling& scaling);

// What spans fields: heads and KV heads, sizes in all, defaults of scale and embedding scale, the
// order of eos ids.
Status finish_config(const Architecture& architecture, ModelConfig& config);

}  // namespace pelton
