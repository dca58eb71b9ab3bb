// A decoder's weights in its backend's memory: canonical tensors packed once, at load, Q K V and
// gate up stacked so that each is one product. Owned by the decoder; used by the engine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "core/status.h"
#include "model/weight_source.h"

namespace pelton {

struct LayerWeights {
  NormWeights attn_norm;             // [H]
  std::unique_ptr<Matrix> qkv;       // [(Hq + 2 Hkv) * D, H]
  const float* qkv_bias = nullptr;   // [(Hq + 2 Hkv) * D], or null
  const float* q_norm = nullptr;     // [D], or null
  const float* k_norm = nullptr;     // [D], or null
  std::unique_ptr<Matrix> o;         // [H, Hq * D]
  const float* o_bias = nullptr;     // [H], or null
  NormWeights post_attn_norm;        // [H], or absent
  NormWeights mlp_norm;              // [H]
  std::unique_ptr<Matrix> up;        // [2F, H] gate over up; plain MLP: [F, H]
  const float* up_bias = nullptr;    // [2F] or [F], or null
  std::unique_ptr<Matrix> down;      // [H, F]
  const float* down_bias = nullptr;  // [H], or null
  NormWeights post_mlp_norm;         // [H], or absent
};

struct DecoderWeights {
  // A backend may use the mapped file in place: it closes after the matrices are gone.
  std::unique_ptr<WeightSource> source;
  std::vector<std::unique_ptr<Buffer>> vectors;  // what the pointers to norms and biases point into

  std::unique_ptr<Matrix> embedding;  // [V, H]
  std::unique_ptr<Matrix> positions;  // [max_positions, H], or null
  std::vector<LayerWeights> layers;
  NormWeights final_norm;           // [H]
  std::unique_ptr<Matrix> lm_head;  // [V, H]; null: the embedding is the head

  int64_t parameter_count = 0;
  int64_t bytes = 0;  // resident in the backend

  const Matrix& head() const { return lm_head != nullptr ? *lm_head : *embedding; }
};

// Bytes of the files' weights packed so far, and in all.
using LoadProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

// UNIMPLEMENTED, before anything is allocated, where the backend has no kernel for a tensor's
// dtype; the backend's own error otherwise. Both name the tensor. `progress` may be null.
StatusOr<DecoderWeights> load_decoder_weights(std::unique_ptr<WeightSource> source,
                                              const ModelConfig& config, Backend& backend,
                                              const LoadProgress& progress);

}  // namespace pelton
