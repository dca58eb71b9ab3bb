// Architectures as data: what one decoder must know to run each model family, and how the files of
// each format name and store its tensors. Constant tables; thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "model/model_config.h"

namespace pelton {

enum class PositionKind : uint8_t { kRope, kLearned };

// What a tensor is, in the decoder's own terms. Shapes are [rows, cols] = [out, in] for matrices
// (y = x W^T), [1, n] for vectors.
enum class TensorRole : uint8_t {
  kTokenEmbedding,     // [vocab, hidden]
  kPositionEmbedding,  // [max_positions, hidden]
  kFinalNorm,          // [1, hidden]
  kFinalNormBias,      // [1, hidden]
  kLmHead,             // [vocab, hidden]; absent when tied: use kTokenEmbedding
  // One of each a layer from here on.
  kAttnNorm,      // [1, hidden] before attention
  kAttnNormBias,  // [1, hidden]
  kQ,             // [q_size, hidden]
  kK,             // [kv_size, hidden]
  kV,             // [kv_size, hidden]
  kO,             // [hidden, q_size]
  kQBias,         // [1, q_size]
  kKBias,         // [1, kv_size]
  kVBias,         // [1, kv_size]
  kOBias,         // [1, hidden]
  kQNorm,         // [1, head_dim] on each head, before rope
  kKNorm,         // [1, head_dim]
  kPostAttnNorm,  // [1, hidden] on attention's output, before the residual sum
  kMlpNorm,       // [1, hidden] before the MLP
  kMlpNormBias,   // [1, hidden]
  kGate,          // [intermediate, hidden]; gated MLP only: down(act(gate x) * up x)
  kUp,            // [intermediate, hidden]
  kDown,          // [hidden, intermediate]
  kGateBias,      // [1, intermediate]
  kUpBias,        // [1, intermediate]
  kDownBias,      // [1, hidden]
  kPostMlpNorm,   // [1, hidden] on the MLP's output, before the residual sum
};
inline constexpr int kNumTensorRoles = 27;

// How ranks of a tensor-parallel group share a tensor.
enum class TensorSplit : uint8_t {
  kReplicated,
  kColumn,  // output features: each rank holds a run of rows
  kRow,     // input features: each rank holds a run of cols; results are summed
};

struct TensorRoleInfo {
  std::string_view name;  // "q", "mlp_norm"
  bool per_layer;
  bool vector;  // [1, n]; always read as F32
  TensorSplit split;
};
const TensorRoleInfo& tensor_role_info(TensorRole role);

struct TensorShape {
  int64_t rows = 0;
  int64_t cols = 0;
  bool operator==(const TensorShape&) const = default;
};
TensorShape tensor_shape(TensorRole role, const ModelConfig& config);

// "layers.3.q", "token_embedding": how errors, tests and tools name a canonical tensor.
std::string canonical_name(TensorRole role, int layer);

// From a file's tensor to the canonical one, in this order.
struct TensorTransform {
  bool transpose = false;         // the file holds [in, out] (Conv1D)
  int8_t fused_part = -1;         // 0, 1, 2: rows of Q, K, V in a fused tensor; -1: the whole
  bool interleaved_rope = false;  // rows of each head are stored as pairs (GGUF's llama Q and K)
  bool add_one = false;           // a norm weight stored less 1
};

// One tensor's home in one format.
struct TensorSource {
  TensorRole role;
  std::string_view name;  // "{}" is the layer; prefixes of the row not included
  TensorTransform transform = {};
};

struct FormatMap {
  std::span<const TensorSource> tensors;
  std::span<const std::string_view> prefixes;  // tried in turn before every name; "" among them
  // Tensors that may be there and are not ours: ends of names (suffixes).
  std::span<const std::string_view> ignorable;
};

struct Architecture {
  std::string_view name;  // also GGUF's general.architecture
  // config.json's model_type and architectures that this row runs.
  std::span<const std::string_view> model_types;
  std::span<const std::string_view> class_names;

  NormKind norm = NormKind::kRms;  // kLayer has biases
  bool post_norms = false;  // attention's and the MLP's outputs are normed before the residual sum
  PositionKind position = PositionKind::kRope;
  bool gated_mlp = true;
  bool qk_norm = false;                       // RMS norm on each head of Q and K
  Activation activation = Activation::kSilu;  // where the file names none
  bool qkv_bias = false;                      // the default, where the file says nothing
  bool o_bias = false;
  bool mlp_bias = false;
  bool tie_embeddings = false;
  bool scale_embedding = false;   // by sqrt(hidden_size)
  int window_pattern = 0;         // every n-th layer sees everything; 0: no layer pattern
  double rope_theta = 10000.0;    // where the file names none
  double local_rope_theta = 0.0;  // 0: window layers use rope_theta
  FormatMap safetensors;
  FormatMap gguf;
};

std::span<const Architecture> architectures();
const Architecture* find_architecture(std::string_view name);  // null: unknown
const Architecture* find_architecture_by_model_type(std::string_view model_type);

// Whether a model of this row and config has the tensor (else it is absent, not missing).
bool has_tensor(const Architecture& architecture, const ModelConfig& config, TensorRole role);

}  // namespace pelton
