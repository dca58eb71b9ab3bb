// Random weights from a config alone.
#include <cmath>

#include "backend/random_blocks.h"
#include "core/check.h"
#include "model/weight_source.h"

namespace pelton {
namespace {

class DummyTensor final : public WeightTensor {
 public:
  DummyTensor(TensorRole role, int layer, DType dtype, TensorShape shape, uint64_t seed)
      : WeightTensor(role, layer, dtype, shape) {
    // FNV-1a of the name: each tensor has a stream of its own.
    seed_ = 0xCBF29CE484222325ULL ^ seed;
    for (const char c : name()) seed_ = (seed_ ^ static_cast<uint8_t>(c)) * 0x100000001B3ULL;
  }

  void read_rows(int64_t begin, int64_t end, void* out) const override {
    PELTON_CHECK(0 <= begin && begin <= end && end <= rows(), "rows out of range");
    auto* bytes = static_cast<std::byte*>(out);
    for (int64_t row = begin; row < end; ++row, bytes += row_bytes()) {
      SplitMix64 random = row_stream(seed_, row);
      if (!tensor_role_info(role()).vector) {
        random_elements(dtype(), cols(), matrix_amplitude(), random, bytes);
      } else {
        read_vector(random, reinterpret_cast<float*>(bytes));
      }
    }
  }

  std::optional<RandomRows> random_rows() const override {
    if (tensor_role_info(role()).vector) return std::nullopt;
    return RandomRows{seed_, matrix_amplitude()};
  }

 private:
  // Uniform in [-a, a] has variance a^2 / 3: a product keeps its input's variance. Embeddings are
  // looked up, not summed over.
  float matrix_amplitude() const {
    const bool lookup =
        role() == TensorRole::kTokenEmbedding || role() == TensorRole::kPositionEmbedding;
    return lookup ? 0.05F : std::sqrt(3.0F / static_cast<float>(cols()));
  }

  void read_vector(SplitMix64& random, float* out) const {
    const float centre = is_norm_weight() ? 1.0F : 0.0F;
    for (int64_t i = 0; i < cols(); ++i) out[i] = centre + 0.1F * (2.0F * random.uniform() - 1.0F);
  }

  bool is_norm_weight() const {
    switch (role()) {
      case TensorRole::kFinalNorm:
      case TensorRole::kAttnNorm:
      case TensorRole::kQNorm:
      case TensorRole::kKNorm:
      case TensorRole::kPostAttnNorm:
      case TensorRole::kMlpNorm:
      case TensorRole::kPostMlpNorm:
        return true;
      default:
        return false;
    }
  }

  uint64_t seed_;
};

DType fitting_dtype(DType dtype, int64_t cols) {
  if (cols % dtype_info(dtype).block_elements == 0) return dtype;
  DType smaller = DType::kF16;
  if (dtype == DType::kQ4_K) smaller = DType::kQ5_0;
  if (dtype == DType::kQ5_K) smaller = DType::kQ5_1;
  if (dtype == DType::kQ6_K) smaller = DType::kQ8_0;
  return cols % dtype_info(smaller).block_elements == 0 ? smaller : DType::kF16;
}

}  // namespace

StatusOr<std::unique_ptr<WeightSource>> dummy_weights(const ModelConfig& config, DType dtype,
                                                      uint64_t seed, ShardSpec shard) {
  const Architecture* row = find_architecture(config.architecture);
  if (row == nullptr) return invalid_field("architecture", "unknown");
  if (shard.rank != 0 || shard.world != 1) {
    return unsupported_field("tensor_parallel_size", "only 1 is built yet");
  }
  const bool plain = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  if (!plain && !is_quantized(dtype)) {
    return unsupported_field("dtype", std::string(dtype_info(dtype).name) + " holds no weights");
  }
  std::vector<std::unique_ptr<WeightTensor>> tensors;
  for (int r = 0; r < kNumTensorRoles; ++r) {
    const auto role = static_cast<TensorRole>(r);
    if (!has_tensor(*row, config, role)) continue;
    const TensorRoleInfo& info = tensor_role_info(role);
    const TensorShape shape = tensor_shape(role, config);
    const DType stored = info.vector ? DType::kF32 : fitting_dtype(dtype, shape.cols);
    for (int layer = info.per_layer ? 0 : -1; layer < (info.per_layer ? config.num_layers : 0);
         ++layer) {
      tensors.push_back(std::make_unique<DummyTensor>(role, layer, stored, shape, seed));
    }
  }
  return std::make_unique<WeightSource>(nullptr, std::move(tensors), std::vector<std::string>{});
}

}  // namespace pelton
