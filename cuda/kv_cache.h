// The paged cache on the card: a piece of the arena for each group, laid out as kernels/kv_layout.h
// says. Engine thread; kernels read it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "cuda/device_arena.h"
#include "cuda/kernels/element_type.h"
#include "cuda/kernels/kv_layout.h"

namespace pelton::cuda {

// none: no kernel reads a cache of this type beside such activations.
std::optional<KvType> kv_type(DType dtype, ElementType activations);

class CudaKvCache final : public KvCache {
 public:
  // INVALID_ARGUMENT for a shape that no kernel reads.
  static StatusOr<std::unique_ptr<CudaKvCache>> create(const KvGeometry& geometry,
                                                       std::span<const int> num_blocks,
                                                       ElementType activations,
                                                       const std::shared_ptr<DeviceArena>& arena);
  const KvGeometry& geometry() const override { return geometry_; }
  int64_t bytes() const override;

  std::byte* block(int group, int64_t block) const {
    return groups_[static_cast<size_t>(group)].data.data() + block * block_bytes(group);
  }
  int64_t block_bytes(int group) const { return geometry_.bytes_per_block(group); }
  // One layer's part of a group.
  KvView view(int group, int layer_index) const;
  std::byte* group_data(int group) const { return block(group, 0); }
  int64_t group_bytes(int group) const { return groups_[static_cast<size_t>(group)].data.bytes(); }
  // Not OK where there is no such block or it has another size.
  Status check_block(int group, BlockId block, size_t bytes) const;

 private:
  struct Group {
    KvShape shape;
    int num_blocks = 0;
    DevicePiece data;
  };
  KvGeometry geometry_;
  std::vector<Group> groups_;
};

}  // namespace pelton::cuda
