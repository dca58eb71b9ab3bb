// What one token's KV looks like, as a list of groups: layers that share dtype, window and block
// table. Models with one kind of attention have one group; gemma3 has two (window and full layers);
// latent attention and recurrent state become further kinds. An encoder has none.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace pelton {

struct KvGroup {
  std::vector<int> layers;  // model layer indices, ascending
  int num_kv_heads = 0;
  int head_dim = 0;
  DType dtype = DType::kF32;
  int window = 0;  // tokens that a query can look back over, itself included; 0: all

  // K and V of one token in one head; 8-bit rows have a float32 scale each.
  int64_t head_bytes_per_token() const {
    const int64_t scale_bytes = dtype == DType::kF8E4M3 || dtype == DType::kI8 ? 4 : 0;
    return 2 * (dtype_bytes(dtype, head_dim) + scale_bytes);
  }
  // K and V of one token over all layers of the group.
  int64_t bytes_per_token() const {
    return static_cast<int64_t>(layers.size()) * num_kv_heads * head_bytes_per_token();
  }
};

struct KvGeometry {
  int block_size = 32;  // tokens a block, the same in every group
  std::vector<KvGroup> groups;

  int64_t bytes_per_block(int group) const { return groups[group].bytes_per_token() * block_size; }
  int64_t bytes_per_token() const {
    int64_t sum = 0;
    for (const KvGroup& group : groups) sum += group.bytes_per_token();
    return sum;
  }
};

}  // namespace pelton
