// The paged cache of the CPU backend. Engine thread only; kernels read it from the pool.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "cpu/memory.h"

namespace pelton::cpu {

// The paged cache: a group is one mapping of blocks; a block holds [layer][head]{keys
// [head_dim][block_size], values [block_size][head_dim]}; int8 also {scales of the keys, f32
// [block_size], scales of the values}.
bool has_kv_kernels(DType dtype);

class CpuKvCache final : public KvCache {
 public:
  // Memory is reserved, and taken as blocks are first written.
  static StatusOr<std::unique_ptr<CpuKvCache>> create(const KvGeometry& geometry,
                                                      std::span<const int> num_blocks);
  const KvGeometry& geometry() const override { return geometry_; }
  int64_t bytes() const override;
  uint8_t* block(int group, int64_t block) const {
    return groups_[group]->data() + block * geometry_.bytes_per_block(group);
  }
  // Not OK where there is no such block or it has another size.
  Status check_block(int group, BlockId block, size_t bytes) const;
  // Bytes of one head's keys and values in one block and layer.
  int64_t head_bytes(int group) const;
  // From a head's keys to its values, and to its scales (0: it has none).
  int64_t value_offset(int group) const;
  int64_t scale_offset(int group) const;
  // From a block's start to the keys of a layer's first head.
  int64_t layer_offset(const KvLayer& layer) const {
    return layer.index * geometry_.groups[layer.group].num_kv_heads * head_bytes(layer.group);
  }

 private:
  KvGeometry geometry_;
  std::vector<std::shared_ptr<Mapping>> groups_;
  std::vector<int> num_blocks_;
};

}  // namespace pelton::cpu
