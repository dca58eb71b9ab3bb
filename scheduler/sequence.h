// The schedulable unit: tokens, progress, block tables. Owned by the scheduler; the engine thread
// alone touches it. What stands under "scheduler" and "kv" only scheduler and manager change.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "scheduler/block_pool.h"
#include "scheduler/prefix_cache.h"

namespace pelton {

// The blocks of a sequence in one KV group, in order of position.
struct KvTable {
  std::vector<BlockRef> blocks;  // null before first_live
  int first_live = 0;            // blocks before it lie wholly before the window and are freed

  // Copies that the step being made must do first. The source stays held until they are done.
  struct Copy {
    BlockRef from;
    BlockId to;
  };
  std::vector<Copy> copies;

  int num_held() const { return static_cast<int>(blocks.size()) - first_live; }
};

struct Sequence {
  SequenceId id;
  std::vector<TokenId> tokens;  // prompt, then answer
  int num_prompt_tokens = 0;
  int max_total_tokens = 0;  // never more tokens than this
  int priority = 0;          // lower runs first
  AdapterId adapter;
  TimePoint deadline = TimePoint::max();
  bool use_prefix_cache = true;  // reads from it and feeds it
  // Prompt logprobs: logits are wanted at positions [num_scored, score_end).
  int score_end = 0;
  int num_scored = 0;

  // scheduler
  enum class State : uint8_t { kWaiting, kRunning, kFinished };
  State state = State::kWaiting;
  int num_computed_tokens = 0;  // tokens whose KV exists
  int scheduled_tokens = 0;     // in the step being made or in flight
  // >= 0: the last token is still being drawn, by this row of the sample() in flight. Its place is
  // taken, and may be scheduled; what stands in `tokens` there means nothing.
  int drawn_row = -1;
  int cached_tokens = 0;  // found in the prefix cache at first admission
  uint64_t arrival = 0;   // order of arrival, unique
  bool admitted_once = false;
  int preemptions = 0;
  int bypassed = 0;       // how often a later arrival was preferred
  bool overdue = false;   // bypassed to the bound: goes before all priorities
  bool reserved = false;  // preempted to the bound: the blocks of its whole life are kept for it
  uint64_t blocked_step = 0;    // the last step in which it was seen not to fit
  uint64_t preempted_step = 0;  // the last step in which it was preempted
  int uncached_tokens = 0;      // to compute, by the cache's state when it was queued

  // kv
  std::vector<KvTable> tables;    // [num_kv_groups]
  BlockHash chain_root;           // binds tenant and adapter
  std::vector<BlockHash> hashes;  // of the leading full blocks, as far as they were needed

  int num_tokens() const { return static_cast<int>(tokens.size()); }
  // Tokens whose KV is still needed; that of the last that fits never is.
  int num_uncomputed() const {
    return std::min(num_tokens(), max_total_tokens - 1) - num_computed_tokens;
  }
};

}  // namespace pelton
