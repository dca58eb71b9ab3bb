// Every operation that a device offers to the models. One virtual class, no dispatch by macros.
// Used by one thread (the engine's). Ops are enqueued in program order and may return before they
// are done; a device error is sticky and comes out of synchronize() or collect().
//
// Names of sizes: M tokens of the step, H hidden size, Hq / Hkv query / KV heads, D head size,
// F MLP size, R rows whose logits are wanted, V vocabulary.
// An op's result for one row depends on that row and its sequence alone: never on M, on the other
// rows, on the number of threads or on which blocks hold the KV.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/communicator.h"
#include "backend/op_kinds.h"
#include "backend/sampler_spec.h"
#include "backend/tensor.h"
#include "core/batch.h"
#include "core/kv_geometry.h"
#include "core/status.h"

namespace pelton {

// A batch on the device: ids, positions, slots, block tables, logit rows, and the plan that
// attention made of them. Valid until the backend's next prepare().
class StepPlan {
 public:
  virtual ~StepPlan() = default;
};

// The paged cache of all KV groups; the layout inside a block is the backend's own.
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual const KvGeometry& geometry() const = 0;
  virtual int64_t bytes() const = 0;
};

// One layer's part of the cache.
struct KvLayer {
  KvCache* cache = nullptr;
  int group = 0;
  int index = 0;  // position of the layer in KvGroup::layers
};

// cos/sin of rotary embedding for one kind of layer, made once at load.
class RopeTable {
 public:
  virtual ~RopeTable() = default;
};
struct RopeSpec {
  std::vector<float> inverse_frequencies;  // [rotary_dim / 2], scaling (linear, llama3, yarn) in
  float magnitude = 1.0F;                  // multiplies cos and sin (yarn's attention factor)
  int max_positions = 0;
  bool interleaved = false;  // pairs (2i, 2i+1) instead of (i, i + rotary_dim / 2)
};

struct NormWeights {
  const float* weight = nullptr;  // [H] device; null: this norm is absent
  const float* bias = nullptr;    // [H] device, or null
};

// t = post present ? norm(x, post) : x;  r = residual present ? residual + t : t (stored back);
// out = norm(r, pre). With `pre` absent only the residual is updated. All of it in float32.
struct NormParams {
  NormKind kind = NormKind::kRms;
  float eps = 1e-5F;
  Tensor x;         // [M, H]
  Tensor residual;  // [M, H] in and out, or undefined
  NormWeights post;
  NormWeights pre;
  Tensor out;  // [M, H], may be x; undefined when pre is absent
};

// out[m] = (table[token m] [+ positions[position m]]) * scale
struct EmbedParams {
  const Matrix* table = nullptr;      // [V, H]
  const Matrix* positions = nullptr;  // [max_positions, H], or null
  float scale = 1.0F;
  Tensor out;  // [M, H]
};

// out = x w^T + bias. `out` may be float32 whatever the activations are (logits).
struct LinearParams {
  Tensor x;                      // [M, K]
  const Matrix* w = nullptr;     // [N, K]
  const float* bias = nullptr;   // [N] device, or null
  Tensor out;                    // [M, N]
  const Matrix* next = nullptr;  // of the product after this one: a hint, what to fetch early
};

// QK norm (RMS over D) where given, then rotary embedding where given, on q and k in place; then k
// and v go to their slots (slot -1: skipped), converted to the cache's dtype.
struct RopeKvParams {
  const StepPlan* plan = nullptr;
  Tensor qkv;  // [M, (Hq + 2 Hkv) * D]: q heads, k heads, v heads
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  const float* q_norm = nullptr;  // [D] device, or null
  const float* k_norm = nullptr;
  float norm_eps = 1e-6F;
  const RopeTable* rope = nullptr;  // null: positions were added at the embedding
  KvLayer kv;
};

// Attention over the paged cache, ragged: decode, chunked prefill, prefix hits and several query
// tokens a sequence mixed. softmax(softcap(q k^T * scale)) v, causal: the query at position p sees
// positions max(0, p - window + 1) .. p; the window is the KV group's.
struct AttentionParams {
  const StepPlan* plan = nullptr;
  Tensor q;  // [M, Hq * D], rows may be those of qkv
  int num_q_heads = 0;
  int head_dim = 0;
  KvLayer kv;
  float scale = 0;
  float softcap = 0;             // cap * tanh(x / cap); 0: off
  const float* sinks = nullptr;  // [Hq] device: a logit that takes part in the softmax only
  Tensor out;                    // [M, Hq * D]
};

// Attention inside each sequence of the batch with no cache, every token seeing every other
// (encoders).
struct EncoderAttentionParams {
  const StepPlan* plan = nullptr;
  Tensor qkv;  // [M, (Hq + 2 Hkv) * D]
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  float scale = 0;
  Tensor out;  // [M, Hq * D]
};

// gated: x [M, 2F] -> act(x[:, :F]) * x[:, F:]; else x [M, F] -> act(x).
struct ActivationParams {
  Activation kind = Activation::kSilu;
  bool gated = true;
  Tensor x;
  Tensor out;  // [M, F]
};

// Routed MLP: top_k experts a token from the router's logits.
struct RouteParams {
  Tensor logits;  // [M, E]
  int top_k = 0;
  bool renormalize = true;  // weights of the chosen sum to 1
  bool sigmoid = false;     // score by sigmoid instead of softmax
  float scale = 1.0F;
  Tensor expert_ids;      // [M, top_k] int32
  Tensor expert_weights;  // [M, top_k] f32
};
// out[m] = sum over the chosen experts of weight * down(act(gate_up(x[m]))), in order of expert id.
struct ExpertsParams {
  Tensor x;                                // [M, H]
  Tensor expert_ids;                       // [M, top_k] int32
  Tensor expert_weights;                   // [M, top_k] f32
  std::span<const Matrix* const> gate_up;  // [E] of [2F, H]
  std::span<const Matrix* const> down;     // [E] of [H, F]
  Activation activation = Activation::kSilu;
  Tensor out;  // [M, H]
};

struct PoolParams {
  const StepPlan* plan = nullptr;
  Pooling kind = Pooling::kMean;
  bool normalize = false;  // to unit length
  Tensor x;                // [M, H]
  Tensor out;              // [num_seqs, H] f32
};

// What encoder_attention() will be asked for; zeros: nothing.
struct EncoderHeads {
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  bool operator==(const EncoderHeads&) const = default;
};
// What experts() will be asked for; zeros: nothing.
struct ExpertsShape {
  int num_experts = 0;
  int top_k = 0;
  int hidden = 0;  // H
  int ffn = 0;     // F
};

// The largest step that a model will ask for.
struct StepLimits {
  int max_tokens = 0;
  int max_seqs = 0;
  int max_logit_rows = 0;  // of one sample()
  int max_model_len = 0;   // tokens of a sequence
  int vocab_size = 0;
  int num_q_heads = 0;
  EncoderHeads encoder = {};
  ExpertsShape experts = {};
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string description() const = 0;           // "cpu: 2 threads, avx512"
  virtual DType activation_dtype() const = 0;            // of the tensors between ops
  virtual bool host_addressable() const = 0;             // the host may read and write Tensor::data
  virtual bool supports_weights(DType dtype) const = 0;  // pack() has a kernel for it
  virtual bool supports_kv(DType dtype) const = 0;
  virtual int64_t free_memory_bytes() const = 0;  // what weights and KV can still take
  virtual Communicator& communicator() = 0;
  // Ops return before the device is done with them, so the engine has the next step enqueued before
  // it collects this one (model_runner.h).
  virtual bool asynchronous() const { return false; }
  // Its memory serves one model alone: the KV cache takes what is left of it.
  virtual bool dedicated_memory() const { return false; }

  // --- memory; at load only ---
  virtual StatusOr<std::unique_ptr<Buffer>> allocate(int64_t bytes) = 0;  // 64-byte aligned
  virtual StatusOr<std::unique_ptr<Buffer>> upload(std::span<const std::byte> host) = 0;
  // Stacks the sources by rows; all have the same cols. The sources are not needed afterwards,
  // except that a mapped one may be used in place: the mapping must outlive the matrix.
  virtual StatusOr<std::unique_ptr<Matrix>> pack(std::span<const RowSource* const> sources) = 0;
  virtual StatusOr<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) = 0;
  // num_blocks: [num_groups]
  virtual StatusOr<std::unique_ptr<KvCache>> allocate_kv(const KvGeometry& geometry,
                                                         std::span<const int> num_blocks) = 0;
  // Takes what steps up to these limits need beside weights, activations and KV, so that what is
  // free afterwards is the KV cache's. A backend that was not asked takes memory as steps need it.
  virtual Status reserve(const StepLimits& /*limits*/, const KvGeometry& /*geometry*/) {
    return absl::OkStatus();
  }
  // Everything is loaded, reserved and recorded: no step takes memory from here on.
  virtual Status seal() { return absl::OkStatus(); }

  // Decode steps may be recorded at start and replayed: for each of these numbers of sequences, in
  // this order, forward() is to be called between record(true) and record(false) with so many new
  // tokens, one a sequence, each with a logit row. Empty: nothing is recorded.
  virtual std::vector<int> recordable_steps() const { return {}; }
  virtual void record(bool /*on*/) {}

  // --- one step ---
  // Bounds were checked by the scheduler: ids within the model, slots within the cache.
  // May come between sample() and collect(), while the step before is still computed: what is
  // uploaded must not disturb it, and Batch::drawn tokens take their ids from that sample()'s
  // results where they are.
  virtual StatusOr<const StepPlan*> prepare(const Batch& batch, const KvGeometry& geometry) = 0;
  virtual void copy_blocks(KvCache& cache, int group, std::span<const BlockCopy> copies) = 0;
  // All ops from embed() to gather_logit_rows() of a forward lie between these two. False: the
  // step is replayed, its ops are not to be called. What a replayed step computes lies where the
  // recorded one's tensors were, in as many rows as the batch has.
  virtual bool begin_forward(const StepPlan& /*plan*/) { return true; }
  virtual Status end_forward() { return absl::OkStatus(); }
  virtual void embed(const StepPlan& plan, const EmbedParams& params) = 0;
  virtual void norm(const NormParams& params) = 0;
  virtual void linear(const LinearParams& params) = 0;
  virtual void rope_and_write_kv(const RopeKvParams& params) = 0;
  virtual void attention(const AttentionParams& params) = 0;
  virtual void encoder_attention(const EncoderAttentionParams& params) = 0;
  virtual void activation(const ActivationParams& params) = 0;
  virtual void route(const RouteParams& params) = 0;
  virtual void experts(const ExpertsParams& params) = 0;
  virtual void pool(const PoolParams& params) = 0;
  // Ops that follow one another in every layer, given together so that a backend can do them in
  // fewer passes. The results are those of the ops one by one, which is what these call.
  // norm.out is qkv.x; qkv.out is rope.qkv, and attention.q its first columns.
  virtual void normed_attention(const NormParams& norm, const LinearParams& qkv,
                                const RopeKvParams& rope, const AttentionParams& attention) {
    normed_linear(norm, qkv);
    rope_and_write_kv(rope);
    this->attention(attention);
  }
  // norm.out is linear.x.
  virtual void normed_linear(const NormParams& norm, const LinearParams& linear) {
    this->norm(norm);
    this->linear(linear);
  }
  // activation.out is linear.x.
  virtual void activated_linear(const ActivationParams& activation, const LinearParams& linear) {
    this->activation(activation);
    this->linear(linear);
  }
  // out[r] = x[logit row r]; [R, H]
  virtual void gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) = 0;
  virtual void softcap(const Tensor& x, float cap) = 0;  // in place: cap * tanh(x / cap)

  // Chooses a token for each row of logits [R, V] f32 by sampler_spec.h. Rows may name the same
  // logit row, and there may be none. Results come from collect(), which waits for this sample()
  // alone: the next step's forward may have been enqueued meanwhile. Every id that stays on the
  // device lies within the vocabulary, that of a row with `nan` too: the next step embeds it.
  virtual Status sample(const Tensor& logits, std::span<const SampleRow> rows) = 0;
  virtual StatusOr<std::vector<SampledToken>> collect() = 0;

  // KV blocks to and from host memory (bytes_per_block(group) each, in the backend's own layout).
  virtual Status read_block(const KvCache& cache, int group, BlockId block,
                            std::span<std::byte> host) = 0;
  virtual Status write_block(KvCache& cache, int group, BlockId block,
                             std::span<const std::byte> host) = 0;

  virtual Status download(const Tensor& x, std::span<std::byte> host) = 0;  // waits
  virtual Status synchronize() = 0;  // waits for everything; gives the sticky error, if any
};

}  // namespace pelton
