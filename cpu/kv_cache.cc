#include "cpu/kv_cache.h"

#include <fmt/format.h>

namespace pelton::cpu {

bool has_kv_kernels(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kI8;
}

StatusOr<std::unique_ptr<CpuKvCache>> CpuKvCache::create(const KvGeometry& geometry,
                                                         std::span<const int> num_blocks) {
  if (num_blocks.size() != geometry.groups.size() || geometry.block_size < 1) {
    return absl::InvalidArgumentError("KV cache: one block count a group, blocks of >= 1 tokens");
  }
  auto cache = std::make_unique<CpuKvCache>();
  cache->geometry_ = geometry;
  for (size_t g = 0; g < num_blocks.size(); ++g) {
    const DType dtype = geometry.groups[g].dtype;
    if (!has_kv_kernels(dtype)) {
      return absl::UnimplementedError(
          fmt::format("the cpu backend has no {} KV cache", dtype_info(dtype).name));
    }
    if (dtype == DType::kI8 && geometry.groups[g].head_dim % 2 != 0) {  // scales are aligned
      return absl::UnimplementedError("the cpu backend has no int8 KV cache for odd head sizes");
    }
    if (num_blocks[g] < 1) return absl::InvalidArgumentError("KV cache: no blocks");
    const int64_t bytes = num_blocks[g] * geometry.bytes_per_block(static_cast<int>(g));
    PELTON_ASSIGN_OR_RETURN(std::shared_ptr<Mapping> mapping, Mapping::create(bytes));
    cache->groups_.push_back(std::move(mapping));
    cache->num_blocks_.push_back(num_blocks[g]);
  }
  return cache;
}

int64_t CpuKvCache::bytes() const {
  int64_t sum = 0;
  for (size_t g = 0; g < num_blocks_.size(); ++g) {
    sum += num_blocks_[g] * geometry_.bytes_per_block(static_cast<int>(g));
  }
  return sum;
}

int64_t CpuKvCache::head_bytes(int group) const {
  return geometry_.groups[group].head_bytes_per_token() * geometry_.block_size;
}

int64_t CpuKvCache::value_offset(int group) const {
  const KvGroup& g = geometry_.groups[group];
  return dtype_bytes(g.dtype, static_cast<int64_t>(g.head_dim) * geometry_.block_size);
}

int64_t CpuKvCache::scale_offset(int group) const {
  return geometry_.groups[group].dtype == DType::kI8 ? 2 * value_offset(group) : 0;
}

Status CpuKvCache::check_block(int group, BlockId block, size_t bytes) const {
  if (group < 0 || group >= static_cast<int>(num_blocks_.size()) || block.value < 0 ||
      block.value >= num_blocks_[group] ||
      static_cast<int64_t>(bytes) != geometry_.bytes_per_block(group)) {
    return absl::InvalidArgumentError("KV cache: no such block, or a buffer of another size");
  }
  return absl::OkStatus();
}

}  // namespace pelton::cpu
