#include "model/architecture.h"

#include <fmt/format.h>

#include <array>

namespace pelton {
namespace {

using enum TensorRole;

constexpr std::array<TensorRoleInfo, kNumTensorRoles> kRoles = {{
    {"token_embedding", false, false, TensorSplit::kReplicated},
    {"position_embedding", false, false, TensorSplit::kReplicated},
    {"final_norm", false, true, TensorSplit::kReplicated},
    {"final_norm_bias", false, true, TensorSplit::kReplicated},
    {"lm_head", false, false, TensorSplit::kColumn},
    {"attn_norm", true, true, TensorSplit::kReplicated},
    {"attn_norm_bias", true, true, TensorSplit::kReplicated},
    {"q", true, false, TensorSplit::kColumn},
    {"k", true, false, TensorSplit::kColumn},
    {"v", true, false, TensorSplit::kColumn},
    {"o", true, false, TensorSplit::kRow},
    {"q_bias", true, true, TensorSplit::kColumn},
    {"k_bias", true, true, TensorSplit::kColumn},
    {"v_bias", true, true, TensorSplit::kColumn},
    {"o_bias", true, true, TensorSplit::kReplicated},
    {"q_norm", true, true, TensorSplit::kReplicated},
    {"k_norm", true, true, TensorSplit::kReplicated},
    {"post_attn_norm", true, true, TensorSplit::kReplicated},
    {"mlp_norm", true, true, TensorSplit::kReplicated},
    {"mlp_norm_bias", true, true, TensorSplit::kReplicated},
    {"gate", true, false, TensorSplit::kColumn},
    {"up", true, false, TensorSplit::kColumn},
    {"down", true, false, TensorSplit::kRow},
    {"gate_bias", true, true, TensorSplit::kColumn},
    {"up_bias", true, true, TensorSplit::kColumn},
    {"down_bias", true, true, TensorSplit::kReplicated},
    {"post_mlp_norm", true, true, TensorSplit::kReplicated},
}};

}  // namespace

const TensorRoleInfo& tensor_role_info(TensorRole role) {
  return kRoles[static_cast<size_t>(role)];
}

TensorShape tensor_shape(TensorRole role, const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  switch (role) {
    case kTokenEmbedding:
    case kLmHead:
      return {config.vocab_size, hidden};
    case kPositionEmbedding:
      return {config.max_positions, hidden};
    case kQ:
      return {config.q_size(), hidden};
    case kK:
    case kV:
      return {config.kv_size(), hidden};
    case kO:
      return {hidden, config.q_size()};
    case kGate:
    case kUp:
      return {inner, hidden};
    case kDown:
      return {hidden, inner};
    case kQBias:
      return {1, config.q_size()};
    case kKBias:
    case kVBias:
      return {1, config.kv_size()};
    case kQNorm:
    case kKNorm:
      return {1, config.head_dim};
    case kGateBias:
    case kUpBias:
      return {1, inner};
    case kFinalNorm:
    case kFinalNormBias:
    case kAttnNorm:
    case kAttnNormBias:
    case kOBias:
    case kPostAttnNorm:
    case kMlpNorm:
    case kMlpNormBias:
    case kDownBias:
    case kPostMlpNorm:
      break;
  }
  return {1, hidden};
}

std::string canonical_name(TensorRole role, int layer) {
  const TensorRoleInfo& info = tensor_role_info(role);
  return info.per_layer ? fmt::format("layers.{}.{}", layer, info.name) : std::string(info.name);
}

bool has_tensor(const Architecture& architecture, const ModelConfig& config, TensorRole role) {
  switch (role) {
    case kPositionEmbedding:
      return architecture.position == PositionKind::kLearned;
    case kLmHead:
      return !config.tie_embeddings;
    case kFinalNormBias:
    case kAttnNormBias:
    case kMlpNormBias:
      return architecture.norm == NormKind::kLayer;
    case kQBias:
    case kKBias:
    case kVBias:
      return config.qkv_bias;
    case kOBias:
      return config.o_bias;
    case kQNorm:
    case kKNorm:
      return architecture.qk_norm;
    case kPostAttnNorm:
    case kPostMlpNorm:
      return architecture.post_norms;
    case kGate:
      return architecture.gated_mlp;
    case kGateBias:
      return architecture.gated_mlp && config.mlp_bias;
    case kUpBias:
    case kDownBias:
      return config.mlp_bias;
    case kTokenEmbedding:
    case kFinalNorm:
    case kAttnNorm:
    case kQ:
    case kK:
    case kV:
    case kO:
    case kMlpNorm:
    case kUp:
    case kDown:
      return true;
  }
  return false;
}

}  // namespace pelton
