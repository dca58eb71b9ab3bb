// The rows of architecture.h: one a model family, with its name maps.
#include <algorithm>

#include "model/architecture.h"

namespace pelton {
namespace {

using enum TensorRole;

constexpr TensorTransform kAsIs = {};
constexpr TensorTransform kPairs = {.interleaved_rope = true};
constexpr TensorTransform kAddOne = {.add_one = true};
constexpr TensorTransform kConv1d = {.transpose = true};
constexpr TensorTransform fused(int8_t part, bool transpose = false) {
  return {.transpose = transpose, .fused_part = part};
}

// --- Hugging Face: llama, qwen2, qwen3 ---

constexpr TensorSource kHfTensors[] = {
    {kTokenEmbedding, "embed_tokens.weight"},
    {kFinalNorm, "norm.weight"},
    {kLmHead, "lm_head.weight", kAsIs, true},
    {kAttnNorm, "layers.{}.input_layernorm.weight"},
    {kQ, "layers.{}.self_attn.q_proj.weight"},
    {kK, "layers.{}.self_attn.k_proj.weight"},
    {kV, "layers.{}.self_attn.v_proj.weight"},
    {kO, "layers.{}.self_attn.o_proj.weight"},
    {kQBias, "layers.{}.self_attn.q_proj.bias"},
    {kKBias, "layers.{}.self_attn.k_proj.bias"},
    {kVBias, "layers.{}.self_attn.v_proj.bias"},
    {kOBias, "layers.{}.self_attn.o_proj.bias"},
    {kQNorm, "layers.{}.self_attn.q_norm.weight"},
    {kKNorm, "layers.{}.self_attn.k_norm.weight"},
    {kMlpNorm, "layers.{}.post_attention_layernorm.weight"},
    {kGate, "layers.{}.mlp.gate_proj.weight"},
    {kUp, "layers.{}.mlp.up_proj.weight"},
    {kDown, "layers.{}.mlp.down_proj.weight"},
    {kGateBias, "layers.{}.mlp.gate_proj.bias"},
    {kUpBias, "layers.{}.mlp.up_proj.bias"},
    {kDownBias, "layers.{}.mlp.down_proj.bias"},
};
constexpr std::string_view kHfPrefixes[] = {"model.", ""};
constexpr std::string_view kHfOuterPrefixes[] = {""};
constexpr std::string_view kHfIgnorable[] = {".rotary_emb.inv_freq"};

constexpr FormatMap kHfMap = {kHfTensors, kHfPrefixes, kHfOuterPrefixes, kHfIgnorable};

// --- Hugging Face: gemma3, whose norms are stored less 1 ---

constexpr TensorSource kHfGemmaTensors[] = {
    {kTokenEmbedding, "embed_tokens.weight"},
    {kFinalNorm, "norm.weight", kAddOne},
    {kLmHead, "lm_head.weight", kAsIs, true},
    {kAttnNorm, "layers.{}.input_layernorm.weight", kAddOne},
    {kQ, "layers.{}.self_attn.q_proj.weight"},
    {kK, "layers.{}.self_attn.k_proj.weight"},
    {kV, "layers.{}.self_attn.v_proj.weight"},
    {kO, "layers.{}.self_attn.o_proj.weight"},
    {kQBias, "layers.{}.self_attn.q_proj.bias"},
    {kKBias, "layers.{}.self_attn.k_proj.bias"},
    {kVBias, "layers.{}.self_attn.v_proj.bias"},
    {kOBias, "layers.{}.self_attn.o_proj.bias"},
    {kQNorm, "layers.{}.self_attn.q_norm.weight", kAddOne},
    {kKNorm, "layers.{}.self_attn.k_norm.weight", kAddOne},
    {kPostAttnNorm, "layers.{}.post_attention_layernorm.weight", kAddOne},
    {kMlpNorm, "layers.{}.pre_feedforward_layernorm.weight", kAddOne},
    {kGate, "layers.{}.mlp.gate_proj.weight"},
    {kUp, "layers.{}.mlp.up_proj.weight"},
    {kDown, "layers.{}.mlp.down_proj.weight"},
    {kPostMlpNorm, "layers.{}.post_feedforward_layernorm.weight", kAddOne},
};
constexpr std::string_view kHfGemmaPrefixes[] = {"model.", "language_model.model.",
                                                 "model.language_model.", ""};
constexpr std::string_view kHfGemmaOuterPrefixes[] = {"", "language_model."};
constexpr std::string_view kHfGemmaIgnorable[] = {".rotary_emb.", "vision_tower.",
                                                  "multi_modal_projector."};
constexpr FormatMap kHfGemmaMap = {kHfGemmaTensors, kHfGemmaPrefixes, kHfGemmaOuterPrefixes,
                                   kHfGemmaIgnorable};

// --- Hugging Face: gpt2, whose matrices are Conv1D ([in, out]) with Q, K and V side by side ---

constexpr TensorSource kHfGpt2Tensors[] = {
    {kTokenEmbedding, "wte.weight"},
    {kPositionEmbedding, "wpe.weight"},
    {kFinalNorm, "ln_f.weight"},
    {kFinalNormBias, "ln_f.bias"},
    {kLmHead, "lm_head.weight", kAsIs, true},
    {kAttnNorm, "h.{}.ln_1.weight"},
    {kAttnNormBias, "h.{}.ln_1.bias"},
    {kQ, "h.{}.attn.c_attn.weight", fused(0, true)},
    {kK, "h.{}.attn.c_attn.weight", fused(1, true)},
    {kV, "h.{}.attn.c_attn.weight", fused(2, true)},
    {kQBias, "h.{}.attn.c_attn.bias", fused(0)},
    {kKBias, "h.{}.attn.c_attn.bias", fused(1)},
    {kVBias, "h.{}.attn.c_attn.bias", fused(2)},
    {kO, "h.{}.attn.c_proj.weight", kConv1d},
    {kOBias, "h.{}.attn.c_proj.bias"},
    {kMlpNorm, "h.{}.ln_2.weight"},
    {kMlpNormBias, "h.{}.ln_2.bias"},
    {kUp, "h.{}.mlp.c_fc.weight", kConv1d},
    {kUpBias, "h.{}.mlp.c_fc.bias"},
    {kDown, "h.{}.mlp.c_proj.weight", kConv1d},
    {kDownBias, "h.{}.mlp.c_proj.bias"},
};
constexpr std::string_view kHfGpt2Prefixes[] = {"transformer.", ""};
constexpr std::string_view kHfGpt2Ignorable[] = {".attn.bias", ".attn.masked_bias"};  // causal mask
constexpr FormatMap kHfGpt2Map = {kHfGpt2Tensors, kHfGpt2Prefixes, kHfOuterPrefixes,
                                  kHfGpt2Ignorable};

// --- GGUF ---

constexpr std::string_view kGgufPrefixes[] = {""};
constexpr std::string_view kGgufIgnorable[] = {"rope_freqs.weight"};  // read with the config

// Q and K stand in the order that rotating neighbours (2i, 2i + 1) asks for.
constexpr TensorSource kGgufLlamaTensors[] = {
    {kTokenEmbedding, "token_embd.weight"},
    {kFinalNorm, "output_norm.weight"},
    {kLmHead, "output.weight", kAsIs, true},
    {kAttnNorm, "blk.{}.attn_norm.weight"},
    {kQ, "blk.{}.attn_q.weight", kPairs},
    {kK, "blk.{}.attn_k.weight", kPairs},
    {kV, "blk.{}.attn_v.weight"},
    {kO, "blk.{}.attn_output.weight"},
    {kQBias, "blk.{}.attn_q.bias", kPairs},
    {kKBias, "blk.{}.attn_k.bias", kPairs},
    {kVBias, "blk.{}.attn_v.bias"},
    {kOBias, "blk.{}.attn_output.bias"},
    {kMlpNorm, "blk.{}.ffn_norm.weight"},
    {kGate, "blk.{}.ffn_gate.weight"},
    {kUp, "blk.{}.ffn_up.weight"},
    {kDown, "blk.{}.ffn_down.weight"},
    {kGateBias, "blk.{}.ffn_gate.bias"},
    {kUpBias, "blk.{}.ffn_up.bias"},
    {kDownBias, "blk.{}.ffn_down.bias"},
};
constexpr FormatMap kGgufLlamaMap = {kGgufLlamaTensors, kGgufPrefixes, kGgufPrefixes,
                                     kGgufIgnorable};

// qwen2, qwen3, gemma3: stored as they are; gemma's norms already hold the 1.
constexpr TensorSource kGgufTensors[] = {
    {kTokenEmbedding, "token_embd.weight"},
    {kFinalNorm, "output_norm.weight"},
    {kLmHead, "output.weight", kAsIs, true},
    {kAttnNorm, "blk.{}.attn_norm.weight"},
    {kQ, "blk.{}.attn_q.weight"},
    {kK, "blk.{}.attn_k.weight"},
    {kV, "blk.{}.attn_v.weight"},
    {kO, "blk.{}.attn_output.weight"},
    {kQBias, "blk.{}.attn_q.bias"},
    {kKBias, "blk.{}.attn_k.bias"},
    {kVBias, "blk.{}.attn_v.bias"},
    {kOBias, "blk.{}.attn_output.bias"},
    {kQNorm, "blk.{}.attn_q_norm.weight"},
    {kKNorm, "blk.{}.attn_k_norm.weight"},
    {kPostAttnNorm, "blk.{}.post_attention_norm.weight"},
    {kMlpNorm, "blk.{}.ffn_norm.weight"},
    {kGate, "blk.{}.ffn_gate.weight"},
    {kUp, "blk.{}.ffn_up.weight"},
    {kDown, "blk.{}.ffn_down.weight"},
    {kPostMlpNorm, "blk.{}.post_ffw_norm.weight"},
};
constexpr FormatMap kGgufMap = {kGgufTensors, kGgufPrefixes, kGgufPrefixes, kGgufIgnorable};

constexpr TensorSource kGgufGpt2Tensors[] = {
    {kTokenEmbedding, "token_embd.weight"},
    {kPositionEmbedding, "position_embd.weight"},
    {kFinalNorm, "output_norm.weight"},
    {kFinalNormBias, "output_norm.bias"},
    {kLmHead, "output.weight", kAsIs, true},
    {kAttnNorm, "blk.{}.attn_norm.weight"},
    {kAttnNormBias, "blk.{}.attn_norm.bias"},
    {kQ, "blk.{}.attn_qkv.weight", fused(0)},
    {kK, "blk.{}.attn_qkv.weight", fused(1)},
    {kV, "blk.{}.attn_qkv.weight", fused(2)},
    {kQBias, "blk.{}.attn_qkv.bias", fused(0)},
    {kKBias, "blk.{}.attn_qkv.bias", fused(1)},
    {kVBias, "blk.{}.attn_qkv.bias", fused(2)},
    {kO, "blk.{}.attn_output.weight"},
    {kOBias, "blk.{}.attn_output.bias"},
    {kMlpNorm, "blk.{}.ffn_norm.weight"},
    {kMlpNormBias, "blk.{}.ffn_norm.bias"},
    {kUp, "blk.{}.ffn_up.weight"},
    {kUpBias, "blk.{}.ffn_up.bias"},
    {kDown, "blk.{}.ffn_down.weight"},
    {kDownBias, "blk.{}.ffn_down.bias"},
};
constexpr FormatMap kGgufGpt2Map = {kGgufGpt2Tensors, kGgufPrefixes, kGgufPrefixes, {}};

// --- the rows ---

constexpr ModelType kLlamaTypes[] = {{"llama"}, {"mistral", WindowRule::kAll}};
constexpr ModelType kQwen2Types[] = {{"qwen2", WindowRule::kFrom}};
constexpr ModelType kQwen3Types[] = {{"qwen3", WindowRule::kFrom}};
constexpr ModelType kGemma3Types[] = {{"gemma3_text", WindowRule::kPattern},
                                      {"gemma3", WindowRule::kPattern}};
constexpr ModelType kGpt2Types[] = {{"gpt2"}};
constexpr std::string_view kLlamaClasses[] = {"LlamaForCausalLM", "MistralForCausalLM"};
constexpr std::string_view kQwen2Classes[] = {"Qwen2ForCausalLM"};
constexpr std::string_view kQwen3Classes[] = {"Qwen3ForCausalLM"};
constexpr std::string_view kGemma3Classes[] = {"Gemma3ForCausalLM",
                                               "Gemma3ForConditionalGeneration"};
constexpr std::string_view kGpt2Classes[] = {"GPT2LMHeadModel"};

constexpr Architecture kArchitectures[] = {
    {.name = "llama",
     .model_types = kLlamaTypes,
     .class_names = kLlamaClasses,
     .safetensors = kHfMap,
     .gguf = kGgufLlamaMap},
    {.name = "qwen2",
     .model_types = kQwen2Types,
     .class_names = kQwen2Classes,
     .qkv_bias = true,
     .optional_biases = false,
     .safetensors = kHfMap,
     .gguf = kGgufMap},
    {.name = "qwen3",
     .model_types = kQwen3Types,
     .class_names = kQwen3Classes,
     .defaults = {.head_dim = 128},
     .qk_norm = true,
     .safetensors = kHfMap,
     .gguf = kGgufMap},
    {.name = "gemma3",
     .model_types = kGemma3Types,
     .class_names = kGemma3Classes,
     .names = {.activation = "hidden_activation"},
     .defaults = {.heads = 8,
                  .kv_heads = 4,
                  .head_dim = 256,
                  .vocab_size = 262208,
                  .max_positions = 131072,
                  .norm_eps = 1e-6,
                  .rope_theta = 1e6,
                  .local_rope_theta = 1e4,
                  .query_scale = 256.0,
                  .sliding_window = 4096,
                  .window_pattern = 6,
                  .activation = Activation::kGeluTanh,
                  .tie_embeddings = true},
     .post_norms = true,
     .qk_norm = true,
     .scale_embedding = true,
     .safetensors = kHfGemmaMap,
     .gguf = kGgufMap},
    {.name = "gpt2",
     .model_types = kGpt2Types,
     .class_names = kGpt2Classes,
     .names = {.layers = "n_layer",
               .hidden = "n_embd",
               .heads = "n_head",
               .intermediate = "n_inner",
               .positions = "n_positions",
               .norm_eps = "layer_norm_epsilon",
               .activation = "activation_function"},
     .defaults = {.norm_eps = 1e-5, .activation = Activation::kGeluTanh, .tie_embeddings = true},
     .norm = NormKind::kLayer,
     .position = PositionKind::kLearned,
     .gated_mlp = false,
     .qkv_bias = true,
     .o_bias = true,
     .mlp_bias = true,
     .optional_biases = false,
     .safetensors = kHfGpt2Map,
     .gguf = kGgufGpt2Map},
};

}  // namespace

std::span<const Architecture> architectures() {
  return kArchitectures;
}

const Architecture* find_architecture(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  return found == std::end(kArchitectures) ? nullptr : found;
}

const Architecture* find_architecture_by_model_type(std::string_view model_type) {
  const auto* found = std::ranges::find_if(kArchitectures, [&](const Architecture& row) {
    return std::ranges::find(row.model_types, model_type, &ModelType::name) !=
           row.model_types.end();
  });
  return found == std::end(kArchitectures) ? nullptr : found;
}

}  // namespace pelton
