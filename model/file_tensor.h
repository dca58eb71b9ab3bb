// A canonical tensor that stands, perhaps transformed, in a mapped file. Immutable, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/weight_source.h"

namespace pelton {

class MappedFile;

// Where the canonical rows are inside the file's tensor.
struct FileLayout {
  std::span<const std::byte> data;  // the file's whole tensor
  DType dtype = DType::kF32;        // as stored
  int64_t file_rows = 0;            // output features of the file's tensor (all fused parts)
  int64_t first_row = 0;            // of this part among them
  int head_dim = 0;                 // of the pairs that interleaved_rope undoes
  TensorTransform transform;
  const MappedFile* file = nullptr;  // that holds data, and outlives the tensor; null: memory does
};

class FileTensor final : public WeightTensor {
 public:
  FileTensor(TensorRole role, int layer, TensorShape shape, const FileLayout& layout);

  void read_rows(int64_t begin, int64_t end, void* out) const override;
  const void* mapped() const override;
  void release() const override;

 private:
  int64_t file_row(int64_t row) const;
  void read_vector_values(float* out) const;
  void read_transposed(int64_t begin, int64_t end, std::byte* out) const;

  FileLayout layout_;
};

}  // namespace pelton
