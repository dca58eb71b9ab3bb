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

double attainable_gops(DType weights, const Ceilings& ceilings) {
  const double peak = peak_gops(weights, ceilings);
  if (!is_quantized(weights)) return 0.95 * peak;
  const bool dot_instructions = ceilings.int8_paired_gops == ceilings.int8_gops;
  // Of the multipliers' instructions for 32 of k, eight are products; one more applies the
  // activations' zero, two the scales, one the minimum. Q6_K has scales and zero for each 16.
  if (dot_instructions) {
    switch (weights) {
      case DType::kQ4_1:
      case DType::kQ5_1:
      case DType::kQ4_K:
      case DType::kQ5_K:
        return peak * 8 / 12;
      case DType::kQ6_K:
        return peak * 8 / 14;
      default:
        return peak * 8 / 11;
    }
  }
  // By vpmaddubsw, as a trial measured them.
  return weights == DType::kQ8_0 ? 0.73 * peak : 0.87 * peak;
}

double bound_seconds(DType weights, double bytes, double operations, const Ceilings& ceilings) {
  return 1e-9 * std::max(bytes / ceilings.read_gb_per_s,
                         operations / (0.85 * attainable_gops(weights, ceilings)));
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
