// The one account of how loaded an engine is: metrics, admin and the gateway protocol read this
// struct, none computes its own. Taken as a snapshot; a plain value.
#pragma once

#include <cstdint>

namespace pelton {

struct Load {
  int64_t running_requests = 0;         // hold blocks
  int64_t waiting_requests = 0;         // queued or preempted
  int64_t waiting_uncached_tokens = 0;  // prompt tokens of the waiting that no cache holds
  int64_t total_blocks = 0;
  int64_t used_blocks = 0;  // owned by a running sequence (cached but free ones are not used)
  double generated_tokens_per_second = 0;  // over the last second or so

  double kv_cache_usage() const {
    return total_blocks == 0 ? 0.0 : static_cast<double>(used_blocks) / total_blocks;
  }
};

}  // namespace pelton
