#include "model/decoder.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "model/rope.h"

namespace pelton {
namespace {

// M: tokens of the step, H: hidden size, Hq / Hkv: query / KV heads, D: head size, F: MLP size.
int64_t qkv_size(const ModelConfig& config) {
  return config.q_size() + 2 * config.kv_size();
}

Tensor view(const Buffer& buffer, DType dtype, int64_t rows, int64_t cols) {
  return {buffer.data(), dtype, rows, cols, cols};
}

Tensor columns(const Tensor& x, int64_t count) {
  Tensor out = x;
  out.cols = count;
  return out;
}

}  // namespace

StatusOr<std::unique_ptr<Decoder>> Decoder::create(const Architecture& architecture,
                                                   const ModelConfig& config,
                                                   const KvGeometry& geometry,
                                                   const DecoderLimits& limits,
                                                   DecoderWeights weights, Backend& backend) {
  std::unique_ptr<Decoder> decoder(
      new Decoder(architecture, config, limits, std::move(weights), backend));
  PELTON_RETURN_IF_ERROR(decoder->make_layers(geometry));
  PELTON_RETURN_IF_ERROR(decoder->allocate_activations());
  return decoder;
}

Decoder::Decoder(const Architecture& architecture, const ModelConfig& config,
                 const DecoderLimits& limits, DecoderWeights weights, Backend& backend)
    : architecture_(architecture),
      config_(config),
      limits_(limits),
      backend_(backend),
      weights_(std::move(weights)) {}

Status Decoder::make_layers(const KvGeometry& geometry) {
  layers_.resize(config_.num_layers);
  for (int g = 0; g < static_cast<int>(geometry.groups.size()); ++g) {
    const std::vector<int>& members = geometry.groups[g].layers;
    for (int i = 0; i < static_cast<int>(members.size()); ++i) {
      layers_[members[i]].kv_group = g;
      layers_[members[i]].kv_index = i;
    }
  }
  if (architecture_.position == PositionKind::kLearned) return Status();
  for (int l = 0; l < config_.num_layers; ++l) {
    std::unique_ptr<RopeTable>& table = config_.is_window_layer(l) ? local_rope_ : rope_;
    if (table == nullptr) {
      PELTON_ASSIGN_OR_RETURN(
          table, backend_.make_rope(
                     rope_spec(config_.layer_rope(l), config_.head_dim, limits_.max_model_len)));
    }
    layers_[l].rope = table.get();
  }
  return Status();
}

Status Decoder::allocate_activations() {
  const int64_t tokens = limits_.max_num_batched_tokens;
  const DType dtype = backend_.activation_dtype();
  const int64_t hidden = config_.hidden_size;
  const int64_t up = weights_.layers.empty() ? 0 : weights_.layers[0].up->rows();
  const int64_t wide = std::max(qkv_size(config_), up);
  const int64_t narrow = std::max<int64_t>({config_.q_size(), config_.intermediate_size, hidden});
  PELTON_ASSIGN_OR_RETURN(residual_, backend_.allocate(tokens * dtype_bytes(dtype, hidden)));
  PELTON_ASSIGN_OR_RETURN(hidden_, backend_.allocate(tokens * dtype_bytes(dtype, hidden)));
  PELTON_ASSIGN_OR_RETURN(wide_, backend_.allocate(tokens * dtype_bytes(dtype, wide)));
  PELTON_ASSIGN_OR_RETURN(narrow_, backend_.allocate(tokens * dtype_bytes(dtype, narrow)));
  PELTON_ASSIGN_OR_RETURN(logits_, backend_.allocate(limits_.max_logit_rows *
                                                     dtype_bytes(DType::kF32, config_.vocab_size)));
  return Status();
}

int64_t Decoder::activation_bytes_per_token(const Architecture& architecture,
                                            const ModelConfig& config, DType dtype) {
  const int64_t up = int64_t{architecture.gated_mlp ? 2 : 1} * config.intermediate_size;
  const int64_t hidden = config.hidden_size;
  return dtype_bytes(dtype,
                     2 * hidden + std::max<int64_t>(qkv_size(config), up) +
                         std::max<int64_t>({config.q_size(), config.intermediate_size, hidden}));
}

int64_t Decoder::activation_bytes() const {
  return residual_->bytes() + hidden_->bytes() + wide_->bytes() + narrow_->bytes() +
         logits_->bytes();
}

Decoder::Step Decoder::begin_step(const StepPlan* plan, KvCache& cache, int64_t num_tokens) const {
  const DType dtype = backend_.activation_dtype();
  const int64_t f = config_.intermediate_size;
  return {.plan = plan,
          .cache = &cache,
          .residual = view(*residual_, dtype, num_tokens, config_.hidden_size),
          .hidden = view(*hidden_, dtype, num_tokens, config_.hidden_size),
          .qkv = view(*wide_, dtype, num_tokens, qkv_size(config_)),
          .attention = view(*narrow_, dtype, num_tokens, config_.q_size()),
          .up = view(*wide_, dtype, num_tokens, architecture_.gated_mlp ? 2 * f : f),
          .act = view(*narrow_, dtype, num_tokens, f)};
}

// The residual stream is updated inside norm(): each sub-block's output is normed where the model
// has post-norms, added to the residual, and normed for the sub-block that follows.
Status Decoder::forward(const Batch& batch, KvCache& cache) {
  PELTON_CHECK(batch.num_tokens() <= limits_.max_num_batched_tokens, "step over the token budget");
  PELTON_ASSIGN_OR_RETURN(const StepPlan* plan, backend_.prepare(batch, cache.geometry()));
  for (size_t g = 0; g < batch.kv.size(); ++g) {
    if (!batch.kv[g].copies.empty()) {
      backend_.copy_blocks(cache, static_cast<int>(g), batch.kv[g].copies);
    }
  }
  num_rows_ = static_cast<int64_t>(batch.logit_rows.size());
  if (backend_.begin_forward(*plan)) {
    run_layers(begin_step(plan, cache, batch.num_tokens()));
    if (num_rows_ > 0) {
      backend_.gather_logit_rows(
          *plan,
          view(*hidden_, backend_.activation_dtype(), batch.num_tokens(), config_.hidden_size),
          view(*narrow_, backend_.activation_dtype(), num_rows_, config_.hidden_size));
    }
  }
  return backend_.end_forward();
}

void Decoder::run_layers(const Step& step) {
  backend_.embed(*step.plan, {.table = weights_.embedding.get(),
                              .positions = weights_.positions.get(),
                              .scale = config_.embedding_scale,
                              .out = step.residual});
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    attention(step, layer);
    mlp(step, layer);
  }
  backend_.norm(norm_before(step, config_.num_layers));
}

NormParams Decoder::norm(const Step& step, const NormWeights& post, const NormWeights& pre) const {
  return {.kind = architecture_.norm,
          .eps = config_.norm_eps,
          .x = step.hidden,
          .residual = step.residual,
          .post = post,
          .pre = pre,
          .out = step.hidden};
}

// The MLP's output of the layer before joins the residual stream; the first layer finds it as the
// embedding left it. After the last layer: the final norm.
NormParams Decoder::norm_before(const Step& step, int layer) const {
  NormParams out =
      norm(step, layer == 0 ? NormWeights{} : weights_.layers[layer - 1].post_mlp_norm,
           layer == config_.num_layers ? weights_.final_norm : weights_.layers[layer].attn_norm);
  if (layer == 0) {
    out.x = step.residual;
    out.residual = {};
  }
  return out;
}

// hidden [M, H]: the output of the MLP before -> hidden: attention's output.
void Decoder::attention(const Step& step, int layer) {
  const LayerWeights& w = weights_.layers[layer];
  const Layer& kind = layers_[layer];
  const KvLayer kv{step.cache, kind.kv_group, kind.kv_index};
  backend_.normed_attention(
      norm_before(step, layer),
      {.x = step.hidden, .w = w.qkv.get(), .bias = w.qkv_bias, .out = step.qkv, .next = w.o.get()},
      {.plan = step.plan,
       .qkv = step.qkv,
       .num_q_heads = config_.num_heads,
       .num_kv_heads = config_.num_kv_heads,
       .head_dim = config_.head_dim,
       .q_norm = w.q_norm,
       .k_norm = w.k_norm,
       .norm_eps = config_.norm_eps,
       .rope = kind.rope,
       .kv = kv},
      {.plan = step.plan,
       .q = columns(step.qkv, config_.q_size()),
       .num_q_heads = config_.num_heads,
       .head_dim = config_.head_dim,
       .kv = kv,
       .scale = config_.attention_scale,
       .softcap = config_.attention_softcap,
       .out = step.attention});
  backend_.linear({.x = step.attention,
                   .w = w.o.get(),
                   .bias = bias_once(w.o_bias),
                   .out = step.hidden,
                   .next = w.up.get()});
  backend_.communicator().all_reduce(step.hidden);
}

// hidden [M, H]: attention's output -> hidden: the MLP's.
void Decoder::mlp(const Step& step, int layer) {
  const LayerWeights& w = weights_.layers[layer];
  const bool last = layer + 1 == config_.num_layers;
  const Matrix* next = last ? &weights_.head() : weights_.layers[layer + 1].qkv.get();
  backend_.normed_linear(
      norm(step, w.post_attn_norm, w.mlp_norm),
      {.x = step.hidden, .w = w.up.get(), .bias = w.up_bias, .out = step.up, .next = w.down.get()});
  backend_.activated_linear(
      {.kind = config_.activation, .gated = architecture_.gated_mlp, .x = step.up, .out = step.act},
      {.x = step.act,
       .w = w.down.get(),
       .bias = bias_once(w.down_bias),
       .out = step.hidden,
       .next = next});
  backend_.communicator().all_reduce(step.hidden);
}

// The bias of a product that ranks sum up: one rank adds it.
const float* Decoder::bias_once(const float* bias) const {
  return backend_.communicator().rank() == 0 ? bias : nullptr;
}

Tensor Decoder::logits(int begin, int count) {
  PELTON_CHECK(count <= limits_.max_logit_rows && begin + count <= num_rows_, "logit rows");
  const Tensor out = view(*logits_, DType::kF32, count, config_.vocab_size);
  const Tensor rows = view(*narrow_, backend_.activation_dtype(), num_rows_, config_.hidden_size);
  backend_.linear(
      {.x = rows.slice_rows(begin, count), .w = &weights_.head(), .bias = nullptr, .out = out});
  if (config_.final_logit_softcap > 0.0F) backend_.softcap(out, config_.final_logit_softcap);
  return out;
}

}  // namespace pelton
