// The one decoder: an architecture row and a ModelConfig say what each layer is, the backend does
// the work. Device-neutral. Used by the engine thread alone; owns weights and activations.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "core/batch.h"
#include "core/status.h"
#include "model/architecture.h"
#include "model/model_config.h"
#include "model/weights.h"

namespace pelton {

struct DecoderLimits {
  int max_model_len = 0;           // positions that rope tables cover
  int max_num_batched_tokens = 0;  // tokens of one step
  int max_logit_rows = 0;          // rows of one logits() call
};

class Decoder {
 public:
  // Allocates all activations: 2 H + max(2F, (Hq + 2 Hkv) D) + max(F, Hq D, H) elements a token of
  // the step, and max_logit_rows * V floats. `backend` outlives the decoder.
  static StatusOr<std::unique_ptr<Decoder>> create(const Architecture& architecture,
                                                   const ModelConfig& config,
                                                   const KvGeometry& geometry,
                                                   const DecoderLimits& limits,
                                                   DecoderWeights weights, Backend& backend);

  const ModelConfig& config() const { return config_; }
  const DecoderWeights& weights() const { return weights_; }
  const DecoderLimits& limits() const { return limits_; }
  int64_t activation_bytes() const;
  // What each token of a step adds to them.
  static int64_t activation_bytes_per_token(const Architecture& architecture,
                                            const ModelConfig& config, DType dtype);

  // Computes the batch's KV and the final hidden states of its logit rows.
  Status forward(const Batch& batch, KvCache& cache);

  // Logits of the last forward's logit rows [begin, begin + count), float32 [count, V], raw. The
  // next call overwrites them. count <= limits().max_logit_rows.
  Tensor logits(int begin, int count);

 private:
  // What a layer has beside its weights.
  struct Layer {
    const RopeTable* rope = nullptr;  // null: learned positions
    int kv_group = 0;
    int kv_index = 0;
  };
  // Views of the activations for one step. Qkv and up share memory, as do attention and act.
  struct Step {
    const StepPlan* plan = nullptr;
    KvCache* cache = nullptr;
    Tensor residual;   // [M, H]
    Tensor hidden;     // [M, H]
    Tensor qkv;        // [M, (Hq + 2 Hkv) * D]
    Tensor attention;  // [M, Hq * D]
    Tensor up;         // [M, 2F]; plain MLP: [M, F]
    Tensor act;        // [M, F]
  };

  Decoder(const Architecture& architecture, const ModelConfig& config, const DecoderLimits& limits,
          DecoderWeights weights, Backend& backend);
  Status make_layers(const KvGeometry& geometry);
  Status allocate_activations();
  Step begin_step(const StepPlan* plan, KvCache& cache, int64_t num_tokens) const;
  void run_layers(const Step& step);
  NormParams norm(const Step& step, const NormWeights& post, const NormWeights& pre) const;
  NormParams norm_before(const Step& step, int layer) const;
  void attention(const Step& step, int layer);
  void mlp(const Step& step, int layer);
  const float* bias_once(const float* bias) const;

  const Architecture& architecture_;
  ModelConfig config_;
  DecoderLimits limits_;
  Backend& backend_;
  DecoderWeights weights_;
  std::unique_ptr<RopeTable> rope_;
  std::unique_ptr<RopeTable> local_rope_;
  std::vector<Layer> layers_;

  std::unique_ptr<Buffer> residual_, hidden_, wide_, narrow_, logits_;
  int64_t num_rows_ = 0;  // logit rows of the last forward; their hidden states lie in narrow_
};

}  // namespace pelton
