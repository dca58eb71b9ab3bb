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
  std::string_view name;  // "{}" stands for the layer
  TensorTransform transform = {};
  bool outer = false;  // under one of outer_prefixes, not of prefixes
};

struct FormatMap {
  std::span<const TensorSource> tensors;
  // What may stand before every name; the one under which the token embedding is found holds.
  std::span<const std::string_view> prefixes;
  std::span<const std::string_view> outer_prefixes;
  // Parts of names of tensors that are not ours and may be there.
  std::span<const std::string_view> ignorable;
};

// Which layers attend within the window, where the file does not list them.
enum class WindowRule : uint8_t {
  kNone,     // the file's window means nothing
  kAll,      // every layer
  kFrom,     // from layer max_window_layers on, where use_sliding_window is true
  kPattern,  // all but every n-th layer
};

struct ModelType {
  std::string_view name;  // config.json's model_type
  WindowRule window = WindowRule::kNone;
};

// What config.json calls the fields that not every family names alike.
struct ConfigNames {
  std::string_view layers = "num_hidden_layers";
  std::string_view hidden = "hidden_size";
  std::string_view heads = "num_attention_heads";
  std::string_view intermediate = "intermediate_size";
  std::string_view positions = "max_position_embeddings";
  std::string_view norm_eps = "rms_norm_eps";
  std::string_view activation = "hidden_act";
};

// Values of fields that a file may leave out; 0: it may not (or the field is derived).
struct ConfigDefaults {
  int heads = 0;
  int kv_heads = 0;  // 0: as many as heads
  int head_dim = 0;  // 0: hidden / heads
  int vocab_size = 0;
  int max_positions = 0;
  double norm_eps = 0.0;
  double rope_theta = 10000.0;
  double local_rope_theta = 0.0;  // 0: window layers rotate as the others do
  double query_scale = 0.0;       // attention_scale is its inverse root; 0: head_dim
  int sliding_window = 0;
  int window_pattern = 0;
  Activation activation = Activation::kSilu;
  bool tie_embeddings = false;
};

struct Architecture {
  std::string_view name;  // also GGUF's general.architecture
  std::span<const ModelType> model_types;
  std::span<const std::string_view> class_names;  // of config.json's architectures
  ConfigNames names = {};
  ConfigDefaults defaults = {};

  NormKind norm = NormKind::kRms;  // kLayer has biases
  bool post_norms = false;         // what attention and MLP give is normed before the residual sum
  PositionKind position = PositionKind::kRope;
  bool gated_mlp = true;
  bool qk_norm = false;          // RMS norm on each head of Q and K, before rope
  bool scale_embedding = false;  // by sqrt(hidden_size)
  bool qkv_bias = false;         // always; where false, config.json's attention_bias decides
  bool o_bias = false;
  bool mlp_bias = false;        // always; where false, config.json's mlp_bias decides
  bool optional_biases = true;  // attention_bias and mlp_bias have a meaning

  FormatMap safetensors = {};
  FormatMap gguf = {};
};

std::span<const Architecture> architectures();
const Architecture* find_architecture(std::string_view name);  // null: unknown
const Architecture* find_architecture_by_model_type(std::string_view model_type);

// Whether a model of this row and config has the tensor (else it is absent, not missing).
bool has_tensor(const Architecture& architecture, const ModelConfig& config, TensorRole role);

}  // namespace pelton
