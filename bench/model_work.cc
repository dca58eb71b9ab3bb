#include "bench/model_work.h"

#include <algorithm>
#include <numeric>

namespace pelton::bench {

double peak_gops(DType weights, const Ceilings& ceilings) {
  switch (weights) {
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ4_K:
      return ceilings.int8_paired_gops;
    case DType::kBF16:
      return ceilings.bf16_gflops;
    default:
      return is_quantized(weights) ? ceilings.int8_gops : ceilings.fma_gflops;
  }
}

int64_t ModelWork::layer_weights() const {
  return std::accumulate(layers.begin(), layers.end(), int64_t{0});
}
int64_t ModelWork::head_weights() const {
  return std::accumulate(head.begin(), head.end(), int64_t{0});
}

double ModelWork::seconds_at_peak(int64_t rows, int64_t sampled, int64_t attended,
                                  const Ceilings& ceilings) const {
  double seconds = 1e-9 * static_cast<double>(attention_ops) * static_cast<double>(attended) /
                   ceilings.fma_gflops;
  for (int i = 0; i < kNumDTypes; ++i) {
    const double products = static_cast<double>(layers[i]) * static_cast<double>(rows) +
                            static_cast<double>(head[i]) * static_cast<double>(sampled);
    seconds += 2e-9 * products / peak_gops(static_cast<DType>(i), ceilings);
  }
  return seconds;
}

ModelWork work_of(const ModelFiles& files) {
  ModelWork work;
  const ModelConfig& config = files.config;
  const auto full_layers = std::count(config.window_layer.begin(), config.window_layer.end(), 0);
  // A product with the key and one with the value, of two operations an element.
  work.attention_ops = 4 * int64_t{config.num_heads} * config.head_dim * full_layers;
  const WeightSource& weights = *files.weights;
  const bool tied = weights.find(TensorRole::kLmHead) == nullptr;
  const TensorRole head = tied ? TensorRole::kTokenEmbedding : TensorRole::kLmHead;
  for (const auto& tensor : weights.tensors()) {
    if (tensor_role_info(tensor->role()).vector) continue;
    const bool is_head = tensor->role() == head;
    if (!is_head && tensor->layer() < 0) continue;  // looked up, not multiplied
    (is_head ? work.head : work.layers)[static_cast<size_t>(tensor->dtype())] +=
        tensor->rows() * tensor->cols();
    work.step_bytes += tensor->bytes();
  }
  return work;
}

}  // namespace pelton::bench
