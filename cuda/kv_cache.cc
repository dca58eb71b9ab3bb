#include "cuda/kv_cache.h"

#include <fmt/format.h>

#include "core/check.h"

namespace pelton::cuda {

std::optional<KvType> kv_type(DType dtype, ElementType activations) {
  switch (dtype) {
    case DType::kBF16:
      if (activations == ElementType::kBF16) return KvType::kBF16;
      return std::nullopt;
    case DType::kF16:
      if (activations == ElementType::kF16) return KvType::kF16;
      return std::nullopt;
    case DType::kF8E4M3:
      return KvType::kF8E4M3;
    case DType::kI8:
      return KvType::kI8;
    default:
      return std::nullopt;
  }
}

StatusOr<std::unique_ptr<CudaKvCache>> CudaKvCache::create(
    const KvGeometry& geometry, std::span<const int> num_blocks, ElementType activations,
    const std::shared_ptr<DeviceArena>& arena) {
  if (num_blocks.size() != geometry.groups.size()) {
    return absl::InvalidArgumentError("a number of blocks for each KV group is needed");
  }
  auto cache = std::make_unique<CudaKvCache>();
  cache->geometry_ = geometry;
  for (size_t g = 0; g < geometry.groups.size(); ++g) {
    const KvGroup& group = geometry.groups[g];
    const std::optional<KvType> type = kv_type(group.dtype, activations);
    Group made;
    made.shape = {type.value_or(KvType::kBF16), geometry.block_size, group.num_kv_heads,
                  group.head_dim};
    made.num_blocks = num_blocks[g];
    if (!type || !made.shape.valid() || num_blocks[g] < 0) {
      return absl::InvalidArgumentError(
          fmt::format("the card's kernels read no KV cache of {} with {} heads of {} elements",
                      dtype_info(group.dtype).name, group.num_kv_heads, group.head_dim));
    }
    const int64_t layer_bytes = made.shape.layer_bytes();
    const auto layers = static_cast<int64_t>(group.layers.size());
    PELTON_CHECK(layer_bytes * layers == geometry.bytes_per_block(static_cast<int>(g)),
                 "the KV layout and its geometry agree");
    PELTON_ASSIGN_OR_RETURN(made.data, arena->allocate(num_blocks[g] * layer_bytes * layers));
    cache->groups_.push_back(std::move(made));
  }
  return cache;
}

int64_t CudaKvCache::bytes() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += group.data.bytes();
  return sum;
}

KvView CudaKvCache::view(int group, int layer_index) const {
  const Group& of = groups_[static_cast<size_t>(group)];
  const auto layers = static_cast<int>(geometry_.groups[static_cast<size_t>(group)].layers.size());
  return kv_layer_view(of.shape, of.data.data(), layers, layer_index);
}

Status CudaKvCache::check_block(int group, BlockId block, size_t bytes) const {
  if (group < 0 || group >= static_cast<int>(groups_.size()) || block.value < 0 ||
      block.value >= groups_[static_cast<size_t>(group)].num_blocks) {
    return absl::InvalidArgumentError("no such KV block");
  }
  if (static_cast<int64_t>(bytes) != block_bytes(group)) {
    return absl::InvalidArgumentError("a KV block has another size");
  }
  return Status();
}

}  // namespace pelton::cuda
