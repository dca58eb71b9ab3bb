// Everything numeric about one model, resolved and bounded, whatever file it came from. What is
// structural (norm placement, gated or plain MLP) stands in the architecture row. A plain value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backend/op_kinds.h"
#include "core/dtype.h"
#include "core/ids.h"
#include "core/status.h"

namespace pelton {

class GgufFile;

enum class RopeScalingKind : uint8_t { kNone, kLinear, kLlama3, kYarn };

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::kNone;
  double factor = 1.0;             // linear, llama3, yarn
  int original_max_positions = 0;  // llama3, yarn: the context trained on; >= 1 there
  double low_freq_factor = 1.0;    // llama3
  double high_freq_factor = 4.0;   // llama3; > low_freq_factor
  double beta_fast = 32.0;         // yarn
  double beta_slow = 1.0;          // yarn
  double attention_factor = 1.0;   // yarn: resolved factor on cos and sin (both Q and K)
  bool truncate = true;            // yarn: the correction range is rounded outwards
};

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling;
  // GGUF's rope_freqs tensor: inverse frequency i is divided by factor i. [head_dim / 2] or empty.
  std::vector<float> freq_factors;
};

struct ModelConfig {
  std::string architecture;  // name of a row of architecture.h: "llama", "gpt2"
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int num_kv_heads = 0;  // divides num_heads
  int head_dim = 0;      // even where rope is used
  int intermediate_size = 0;
  int vocab_size = 0;  // rows of the token embedding
  int max_positions = 0;
  float norm_eps = 1e-5F;
  Activation activation = Activation::kSilu;

  RopeConfig rope;         // layers with full attention; meaningless with learned positions
  RopeConfig local_rope;   // layers with a window; equal to rope unless the model has a second base
  int sliding_window = 0;  // tokens a query sees, itself included; 0: no layer has one
  std::vector<uint8_t> window_layer;  // [num_layers] 1: this layer attends within the window

  float attention_scale = 1.0F;      // on Q K^T, before any softcap
  float attention_softcap = 0.0F;    // 0: none; else cap * tanh(score / cap)
  float final_logit_softcap = 0.0F;  // 0: none
  float embedding_scale = 1.0F;      // on token embeddings
  bool tie_embeddings = false;       // the token embedding is the LM head
  bool qkv_bias = false;             // Q, K and V projections have biases
  bool o_bias = false;               // the attention output projection has one
  bool mlp_bias = false;             // all MLP projections have one

  std::vector<TokenId> eos_ids;  // each ends an answer; ascending, may be empty
  TokenId bos_id = -1;           // -1: none
  DType dtype = DType::kF32;     // the dtype that the weights were published in

  int q_size() const { return num_heads * head_dim; }
  int kv_size() const { return num_kv_heads * head_dim; }
  bool is_window_layer(int layer) const { return window_layer[static_cast<size_t>(layer)] != 0; }
  // The window of one layer, 0 where it sees everything: KvGroup's convention.
  int layer_window(int layer) const { return is_window_layer(layer) ? sliding_window : 0; }
  const RopeConfig& layer_rope(int layer) const {
    return is_window_layer(layer) ? local_rope : rope;
  }
};

// From the text of a Hugging Face config.json and, where there is one, generation_config.json (else
// ""). Errors carry the field (error_field): INVALID_ARGUMENT out of bounds or malformed,
// UNIMPLEMENTED for what no row or op covers.
StatusOr<ModelConfig> model_config_from_json(std::string_view config_json,
                                             std::string_view generation_config_json = "");

// From GGUF metadata; tensors are consulted for what metadata does not say (biases, tied head).
StatusOr<ModelConfig> model_config_from_gguf(const GgufFile& file);

}  // namespace pelton
