// How much KV cache a model gets: its geometry from the config, its blocks from a budget of bytes.
// Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kv_geometry.h"
#include "core/status.h"
#include "model/model_config.h"

namespace pelton {

inline constexpr int kMinBlockSize = 1;
inline constexpr int kMaxBlockSize = 1024;
inline constexpr int kDefaultKvSequences = 8;  // of max_model_len, by default

// One group a window: the layers that see everything, then those that see `sliding_window` tokens.
// INVALID_ARGUMENT (block_size) out of bounds.
StatusOr<KvGeometry> make_kv_geometry(const ModelConfig& config, DType dtype, int block_size);

struct KvBudget {
  int64_t bytes = 0;         // 0: enough for kDefaultKvSequences, at most a quarter of free_bytes
  int64_t free_bytes = 0;    // what the device has left
  int max_model_len = 0;     // tokens
  bool may_shorten = false;  // lower max_model_len to what fits instead of failing
  bool all_left = false;     // `bytes` are all that weights and activations left of a device
};
struct KvPlan {
  std::vector<int> num_blocks;  // [num_groups]; the same in each: a sequence takes as many of each
  int max_model_len = 0;        // tokens; one such sequence fits
  int64_t bytes = 0;
};
// RESOURCE_EXHAUSTED (kv_cache_memory_bytes) where the bytes are more than the device has;
// INVALID_ARGUMENT (max_model_len) where one sequence of max_model_len does not fit.
StatusOr<KvPlan> plan_kv_cache(const KvGeometry& geometry, const KvBudget& budget);

}  // namespace pelton
