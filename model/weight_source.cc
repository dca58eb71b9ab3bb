#include "model/weight_source.h"

#include <algorithm>

#include "core/check.h"

namespace pelton {

std::vector<float> read_vector(const WeightTensor& tensor) {
  PELTON_CHECK(tensor.rows() == 1 && tensor.dtype() == DType::kF32, "not a vector");
  std::vector<float> values(static_cast<size_t>(tensor.cols()));
  tensor.read_rows(0, 1, values.data());
  return values;
}

WeightSource::WeightSource(std::shared_ptr<const void> file,
                           std::vector<std::unique_ptr<WeightTensor>> tensors,
                           std::vector<std::string> warnings)
    : file_(std::move(file)), tensors_(std::move(tensors)), warnings_(std::move(warnings)) {
  int last_layer = -1;
  for (const auto& tensor : tensors_) last_layer = std::max(last_layer, tensor->layer());
  index_.assign(static_cast<size_t>(last_layer + 2) * kNumTensorRoles, -1);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const auto slot = static_cast<size_t>(tensors_[i]->layer() + 1) * kNumTensorRoles +
                      static_cast<size_t>(tensors_[i]->role());
    PELTON_CHECK(index_[slot] < 0, "a tensor given twice");
    index_[slot] = static_cast<int32_t>(i);
  }
}

const WeightTensor* WeightSource::find(TensorRole role, int layer) const {
  const auto slot = static_cast<size_t>(layer + 1) * kNumTensorRoles + static_cast<size_t>(role);
  if (layer < -1 || slot >= index_.size() || index_[slot] < 0) return nullptr;
  return tensors_[static_cast<size_t>(index_[slot])].get();
}

int64_t WeightSource::total_bytes() const {
  int64_t sum = 0;
  for (const auto& tensor : tensors_) sum += tensor->bytes();
  return sum;
}

}  // namespace pelton
