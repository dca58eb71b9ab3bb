// Gives sequences their KV blocks: one pool, one prefix cache and one table a sequence for each KV
// group; copy-on-write where blocks are shared. Works on ids, never on device memory. Engine thread
// only; it outlives the sequences that hold its blocks.
#pragma once

#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/kv_geometry.h"
#include "core/status.h"
#include "scheduler/block_pool.h"
#include "scheduler/kv_events.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/sequence.h"

namespace pelton {

class KvBlockManager {
 public:
  // `num_blocks`: [groups]. `hasher` null: no prefix cache. `max_step_tokens` bounds what one
  // sequence can be given in one step.
  KvBlockManager(const KvGeometry& geometry, std::span<const int> num_blocks, int max_step_tokens,
                 std::unique_ptr<BlockHasher> hasher);

  int num_groups() const { return static_cast<int>(groups_.size()); }
  int block_size() const { return block_size_; }
  // The longest sequence whose KV fits when it is alone.
  int max_sequence_tokens() const { return max_sequence_tokens_; }
  // The most tokens one sequence may add in a step, so that a small window group can hold them.
  int max_chunk_tokens() const { return max_chunk_tokens_; }

  // Whether a sequence gives blocks back while it runs.
  bool has_windows() const;

  // Blocks of a group that a sequence holds at most on its way to `tokens` tokens.
  int peak_blocks(int group, int tokens) const;
  int free_blocks(int group) const { return groups_[static_cast<size_t>(group)].pool.num_free(); }
  int used_blocks() const;   // over all groups, pending ones included
  int total_blocks() const;  // likewise
  // Free blocks that admission with `hit_tokens` found and `tokens` tokens in all takes away, at
  // its peak.
  int admission_cost(int group, const Sequence& sequence, int hit_tokens, int tokens) const;
  // Blocks that the sequence alone holds: what its release sets free.
  int exclusive_blocks(int group, const Sequence& sequence) const;

  // Before anything else with a new sequence.
  void open(Sequence& sequence, std::string_view tenant);
  // Tokens (full blocks) that the cache holds of the sequence's first `limit`; in every group, as
  // far as its window reaches back. Takes nothing.
  int find_prefix(Sequence& sequence, int limit);
  // Takes the blocks that find_prefix() saw; the sequence holds none.
  void attach_prefix(Sequence& sequence, int tokens);
  // Gives blocks for as many of `want` more tokens as fit while `keep_free` [groups] stay free, and
  // returns how many that are. Frees what lies before the window; copies what is shared. A
  // sequence's num_computed_tokens may have stepped back, but not before its window.
  int grow(Sequence& sequence, int want, std::span<const int> keep_free);
  // The KV of positions [from, to) has been written: full blocks become visible in the cache.
  void commit(Sequence& sequence, int from, int to);
  // Shares all of the parent's blocks with a child that has the same tokens and holds none.
  void fork(const Sequence& parent, Sequence& child);
  void release(Sequence& sequence);

  // Blocks freed between the two stay pending.
  void begin_step();
  void end_step();

  void clear_prefix_cache();
  const KvEventLog& events() const { return events_; }
  const PrefixCache& prefix_cache(int group) const {
    return groups_[static_cast<size_t>(group)].cache;
  }
  const BlockPool& pool(int group) const { return groups_[static_cast<size_t>(group)].pool; }

  // `sequences`: all that may hold blocks.
  Status check_integrity(std::span<const Sequence* const> sequences) const;

 private:
  struct Group {
    explicit Group(int num_blocks, int window_tokens)
        : pool(num_blocks), cache(num_blocks), window(window_tokens) {}
    BlockPool pool;
    PrefixCache cache;
    int window;  // 0: all
  };

  // The first block that a query at position `position` or later can see.
  int first_visible(const Group& group, int position) const;
  int blocks_for(int tokens) const { return (tokens + block_size_ - 1) / block_size_; }
  BlockRef take(int group);
  void forget(int group, BlockId block);
  void drop_before_window(Group& group, Sequence& sequence, KvTable& table);
  int num_shared(const Group& group, const KvTable& table, int first, int last) const;
  void make_writable(int group, Sequence& sequence, int end);
  void extend_hashes(Sequence& sequence, int num_blocks);
  void store(int group, Sequence& sequence, int index);
  Status check_table(int group, const Sequence& sequence, std::vector<int>& owners) const;

  const int block_size_;
  int max_sequence_tokens_ = std::numeric_limits<int>::max();
  int max_chunk_tokens_;
  std::deque<Group> groups_;  // never moved: block references point to their pool
  std::unique_ptr<BlockHasher> hasher_;
  KvEventLog events_;
};

}  // namespace pelton
