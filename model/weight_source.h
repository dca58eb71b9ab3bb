// A model's weights under canonical names, whatever file they come from: checked in full when
// opened, read row by row while a backend packs. Reading is const and thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/tensor.h"
#include "core/status.h"
#include "model/architecture.h"
#include "model/model_config.h"

namespace pelton {

class GgufFile;
class SafetensorsModel;

// One canonical tensor: Backend::pack() takes it as it is. Vectors (norms, biases) are [1, n] and
// always F32; matrices keep the file's dtype. A transposed matrix reads best some hundred rows a
// call.
class WeightTensor : public RowSource {
 public:
  TensorRole role() const { return role_; }
  int layer() const { return layer_; }  // -1 outside layers
  std::string name() const { return canonical_name(role_, layer_); }
  TensorSplit split() const { return tensor_role_info(role_).split; }

  DType dtype() const final { return dtype_; }
  int64_t rows() const final { return shape_.rows; }
  int64_t cols() const final { return shape_.cols; }
  int64_t row_bytes() const { return dtype_bytes(dtype_, shape_.cols); }
  int64_t bytes() const { return shape_.rows * row_bytes(); }

 protected:
  WeightTensor(TensorRole role, int layer, DType dtype, TensorShape shape)
      : role_(role), layer_(layer), dtype_(dtype), shape_(shape) {}

 private:
  TensorRole role_;
  int layer_;
  DType dtype_;
  TensorShape shape_;
};

// The floats of a vector ([1, n], F32).
std::vector<float> read_vector(const WeightTensor& tensor);

class WeightSource {
 public:
  // Keeps `file` (a mapping) open for as long as it lives.
  WeightSource(std::shared_ptr<const void> file, std::vector<std::unique_ptr<WeightTensor>> tensors,
               std::vector<std::string> warnings);

  // Every tensor that the architecture and config call for, each once.
  const std::vector<std::unique_ptr<WeightTensor>>& tensors() const { return tensors_; }
  // Null where the model has no such tensor (no biases, tied head). layer -1 outside layers.
  const WeightTensor* find(TensorRole role, int layer = -1) const;
  int64_t total_bytes() const;
  // Things worth a log line, such as tensors that the architecture does not know. Bounded.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  std::shared_ptr<const void> file_;
  std::vector<std::unique_ptr<WeightTensor>> tensors_;
  std::vector<int32_t> index_;  // [(1 + num_layers) * kNumTensorRoles] into tensors_; -1: absent
  std::vector<std::string> warnings_;
};

// Which share of each tensor to give. Only (0, 1) is accepted today.
struct ShardSpec {
  int rank = 0;
  int world = 1;
};

// Both check every tensor's presence, shape and dtype. Errors carry the file's tensor name as
// error_field: NOT_FOUND missing, INVALID_ARGUMENT of a wrong shape, UNIMPLEMENTED of a dtype that
// no weight may have or that the architecture's transform can not act on.
StatusOr<std::unique_ptr<WeightSource>> open_weights(std::shared_ptr<const SafetensorsModel> file,
                                                     const ModelConfig& config,
                                                     ShardSpec shard = {});
StatusOr<std::unique_ptr<WeightSource>> open_weights(std::shared_ptr<const GgufFile> file,
                                                     const ModelConfig& config,
                                                     ShardSpec shard = {});

// `--load-format dummy`: random weights of sane scale, a pure function of (seed, tensor, row),
// made when read. Matrices are in `dtype`; where a matrix's cols are no whole number of its blocks,
// the nearest format that fits is used (q4_k -> q5_0, q5_k -> q5_1, q6_k -> q8_0; else f16).
StatusOr<std::unique_ptr<WeightSource>> dummy_weights(const ModelConfig& config, DType dtype,
                                                      uint64_t seed, ShardSpec shard = {});

}  // namespace pelton
