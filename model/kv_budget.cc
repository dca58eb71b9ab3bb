#include "model/kv_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace pelton {
namespace {

std::string mib(int64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

Status with_field(Status status, std::string_view field) {
  set_error_field(status, field);
  return status;
}

}  // namespace

StatusOr<KvGeometry> make_kv_geometry(const ModelConfig& config, DType dtype, int block_size) {
  if (block_size < kMinBlockSize || block_size > kMaxBlockSize) {
    return invalid_field("block_size", fmt::format("{} is not within {} and {} tokens", block_size,
                                                   kMinBlockSize, kMaxBlockSize));
  }
  KvGeometry geometry;
  geometry.block_size = block_size;
  for (const bool windowed : {false, true}) {
    KvGroup group;
    for (int l = 0; l < config.num_layers; ++l) {
      if ((config.layer_window(l) > 0) == windowed) group.layers.push_back(l);
    }
    if (group.layers.empty()) continue;
    group.num_kv_heads = config.num_kv_heads;
    group.head_dim = config.head_dim;
    group.dtype = dtype;
    group.window = windowed ? config.sliding_window : 0;
    geometry.groups.push_back(std::move(group));
  }
  return geometry;
}

StatusOr<KvPlan> plan_kv_cache(const KvGeometry& geometry, const KvBudget& budget) {
  const int64_t block_bytes = geometry.bytes_per_token() * geometry.block_size;
  const auto blocks_for = [&](int64_t tokens) {
    return (tokens + geometry.block_size - 1) / geometry.block_size;
  };
  if (budget.bytes > budget.free_bytes) {
    return with_field(absl::ResourceExhaustedError(fmt::format(
                          "a KV cache of {} is more than the {} of memory that are free; lower "
                          "--kv-cache-memory-bytes",
                          mib(budget.bytes), mib(budget.free_bytes))),
                      "kv_cache_memory_bytes");
  }
  // The default is a whole number of sequences at least where memory allows; given bytes are used
  // up. Slots are int32.
  int64_t blocks = budget.bytes / block_bytes;
  if (budget.bytes == 0) {
    blocks = std::min(kDefaultKvSequences * blocks_for(budget.max_model_len),
                      budget.free_bytes / 4 / block_bytes);
  }
  blocks = std::min<int64_t>(blocks, std::numeric_limits<int32_t>::max() / geometry.block_size);

  KvPlan plan;
  plan.max_model_len = budget.max_model_len;
  if (blocks < blocks_for(budget.max_model_len)) {
    if (!budget.may_shorten || blocks == 0) {
      return invalid_field(
          "max_model_len",
          fmt::format("one sequence of {} tokens needs {} of KV cache, and {} hold {} tokens; "
                      "lower --max-model-len or raise {}",
                      budget.max_model_len, mib(blocks_for(budget.max_model_len) * block_bytes),
                      mib(budget.bytes == 0 ? budget.free_bytes / 4 : budget.bytes),
                      blocks * geometry.block_size,
                      budget.all_left ? "--gpu-memory-utilization" : "--kv-cache-memory-bytes"));
    }
    plan.max_model_len = static_cast<int>(blocks * geometry.block_size);
  }
  plan.num_blocks.assign(geometry.groups.size(), static_cast<int>(blocks));
  plan.bytes = blocks * block_bytes;
  return plan;
}

}  // namespace pelton
