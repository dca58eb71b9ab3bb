#include "scheduler/kv_block_manager.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"

namespace pelton {

KvBlockManager::KvBlockManager(const KvGeometry& geometry, std::span<const int> num_blocks,
                               int max_step_tokens, std::unique_ptr<BlockHasher> hasher)
    : block_size_(geometry.block_size),
      max_chunk_tokens_(max_step_tokens),
      hasher_(std::move(hasher)),
      events_(static_cast<int>(geometry.groups.size())) {
  PELTON_CHECK(block_size_ > 0 && num_blocks.size() == geometry.groups.size(), "KV geometry");
  for (size_t i = 0; i < num_blocks.size(); ++i) {
    groups_.emplace_back(num_blocks[i], geometry.groups[i].window);
    Group& group = groups_.back();
    const int64_t tokens = int64_t{num_blocks[i]} * block_size_;
    // While its window slides, a sequence holds window - 1 + chunk tokens, spread over one block
    // more than they fill (peak_blocks). Where the pool has no room for that, nothing slides.
    const int64_t chunk = tokens - block_size_ - (group.window - 1);
    if (group.window > 0 && chunk >= 1) {
      max_chunk_tokens_ = static_cast<int>(std::min<int64_t>(max_chunk_tokens_, chunk));
    } else {
      group.window = 0;
      max_sequence_tokens_ = static_cast<int>(std::min<int64_t>(max_sequence_tokens_, tokens));
    }
  }
}

bool KvBlockManager::has_windows() const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [](const Group& group) { return group.window > 0; });
}

int KvBlockManager::peak_blocks(int group, int tokens) const {
  const int window = groups_[static_cast<size_t>(group)].window;
  const int all = blocks_for(tokens);
  return window == 0 ? all : std::min(all, blocks_for(window - 1 + max_chunk_tokens_) + 1);
}

int KvBlockManager::used_blocks() const {
  int sum = 0;
  for (const Group& group : groups_) sum += group.pool.num_blocks() - group.pool.num_free();
  return sum;
}

int KvBlockManager::total_blocks() const {
  int sum = 0;
  for (const Group& group : groups_) sum += group.pool.num_blocks();
  return sum;
}

int KvBlockManager::first_visible(const Group& group, int position) const {
  return group.window == 0 ? 0 : std::max(0, position + 1 - group.window) / block_size_;
}

int KvBlockManager::admission_cost(int group, const Sequence& sequence, int hit_tokens,
                                   int tokens) const {
  const Group& g = groups_[static_cast<size_t>(group)];
  int cost = peak_blocks(group, tokens);
  for (int i = first_visible(g, hit_tokens); i < hit_tokens / block_size_; ++i) {
    const BlockId block = g.cache.find(sequence.hashes[static_cast<size_t>(i)]);
    if (g.pool.ref_count(block) > 0) --cost;
  }
  return cost;
}

int KvBlockManager::exclusive_blocks(int group, const Sequence& sequence) const {
  const KvTable& table = sequence.tables[static_cast<size_t>(group)];
  const BlockPool& pool = groups_[static_cast<size_t>(group)].pool;
  return static_cast<int>(
      std::count_if(table.blocks.begin() + table.first_live, table.blocks.end(),
                    [&pool](const BlockRef& block) { return pool.ref_count(block.id()) == 1; }));
}

void KvBlockManager::open(Sequence& sequence, std::string_view tenant) {
  sequence.tables.resize(groups_.size());
  if (hasher_ == nullptr) sequence.use_prefix_cache = false;
  if (sequence.use_prefix_cache) sequence.chain_root = hasher_->root(tenant, sequence.adapter);
}

void KvBlockManager::extend_hashes(Sequence& sequence, int num_blocks) {
  while (static_cast<int>(sequence.hashes.size()) < num_blocks) {
    const size_t index = sequence.hashes.size();
    const BlockHash& parent = index == 0 ? sequence.chain_root : sequence.hashes.back();
    const size_t size = static_cast<size_t>(block_size_);
    sequence.hashes.push_back(
        hasher_->block(parent, std::span(sequence.tokens).subspan(index * size, size)));
  }
}

int KvBlockManager::find_prefix(Sequence& sequence, int limit) {
  if (!sequence.use_prefix_cache || groups_.empty()) return 0;
  int found = std::min(limit, sequence.num_tokens()) / block_size_;
  extend_hashes(sequence, found);
  for (const Group& group : groups_) {
    if (group.window > 0) continue;
    int run = 0;
    while (run < found && group.cache.find(sequence.hashes[static_cast<size_t>(run)]) != kNoBlock) {
      ++run;
    }
    found = run;
  }
  // A window group needs only the blocks that the next query sees: step back, from the longest
  // prefix, over each block that is missing. Every group must agree on the length.
  for (bool settled = false; !settled && found > 0;) {
    settled = true;
    for (const Group& group : groups_) {
      if (group.window == 0) continue;
      for (int i = found - 1; i >= first_visible(group, found * block_size_); --i) {
        if (group.cache.find(sequence.hashes[static_cast<size_t>(i)]) != kNoBlock) continue;
        found = i;
        settled = false;
      }
    }
  }
  return found * block_size_;
}

void KvBlockManager::attach_prefix(Sequence& sequence, int tokens) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    KvTable& table = sequence.tables[g];
    table.first_live = first_visible(group, tokens);
    table.blocks.resize(static_cast<size_t>(table.first_live));
    for (int i = table.first_live; i < tokens / block_size_; ++i) {
      const BlockId block = group.cache.find(sequence.hashes[static_cast<size_t>(i)]);
      table.blocks.push_back(group.pool.acquire(block));
    }
  }
  sequence.num_computed_tokens = tokens;
}

BlockRef KvBlockManager::take(int group) {
  BlockRef block = groups_[static_cast<size_t>(group)].pool.allocate();
  if (block) forget(group, block.id());
  return block;
}

void KvBlockManager::forget(int group, BlockId block) {
  Group& g = groups_[static_cast<size_t>(group)];
  if (const auto hash = g.cache.erase(block)) {
    g.pool.set_cached(block, false);
    events_.removed(group, hash->low64());
  }
}

void KvBlockManager::drop_before_window(Group& group, Sequence& sequence, KvTable& table) {
  const int visible = std::min(first_visible(group, sequence.num_computed_tokens),
                               static_cast<int>(table.blocks.size()));
  for (; table.first_live < visible; ++table.first_live) {
    table.blocks[static_cast<size_t>(table.first_live)].reset();
  }
}

int KvBlockManager::num_shared(const Group& group, const KvTable& table, int first,
                               int last) const {
  int shared = 0;
  for (int i = first; i < std::min(last, static_cast<int>(table.blocks.size())); ++i) {
    shared += group.pool.ref_count(table.blocks[static_cast<size_t>(i)].id()) > 1;
  }
  return shared;
}

int KvBlockManager::grow(Sequence& sequence, int want, std::span<const int> keep_free) {
  const int start = sequence.num_computed_tokens;
  int granted = want;
  for (size_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    KvTable& table = sequence.tables[g];
    drop_before_window(group, sequence, table);
    const int available = group.pool.num_free() - keep_free[g] -
                          num_shared(group, table, start / block_size_, blocks_for(start + want));
    if (available < 0) return 0;
    const int64_t room =
        (static_cast<int64_t>(table.blocks.size()) + available) * block_size_ - start;
    granted = static_cast<int>(std::min<int64_t>(granted, room));
  }
  if (granted <= 0) return 0;
  for (int g = 0; g < num_groups(); ++g) make_writable(g, sequence, start + granted);
  return granted;
}

void KvBlockManager::make_writable(int group, Sequence& sequence, int end) {
  const BlockPool& pool = groups_[static_cast<size_t>(group)].pool;
  KvTable& table = sequence.tables[static_cast<size_t>(group)];
  const int start = sequence.num_computed_tokens;
  for (int i = start / block_size_; i < blocks_for(end); ++i) {
    if (i == static_cast<int>(table.blocks.size())) {
      table.blocks.push_back(take(group));
      continue;
    }
    BlockRef& block = table.blocks[static_cast<size_t>(i)];
    if (pool.ref_count(block.id()) == 1) {
      forget(group, block.id());  // its content is about to change
      continue;
    }
    BlockRef copy = take(group);
    if (i * block_size_ < start) table.copies.push_back({std::move(block), copy.id()});
    block = std::move(copy);
  }
}

void KvBlockManager::commit(Sequence& sequence, int from, int to) {
  for (KvTable& table : sequence.tables) table.copies.clear();
  if (!sequence.use_prefix_cache) return;
  extend_hashes(sequence, to / block_size_);
  for (int i = from / block_size_; i < to / block_size_; ++i) {
    for (int g = 0; g < num_groups(); ++g) store(g, sequence, i);
  }
}

void KvBlockManager::store(int group, Sequence& sequence, int index) {
  Group& g = groups_[static_cast<size_t>(group)];
  const KvTable& table = sequence.tables[static_cast<size_t>(group)];
  if (index < table.first_live) return;
  const BlockId block = table.blocks[static_cast<size_t>(index)].id();
  const BlockHash& hash = sequence.hashes[static_cast<size_t>(index)];
  if (!g.cache.insert(hash, block)) return;
  g.pool.set_cached(block, true);
  const auto tokens = sequence.tokens.begin() + int64_t{index} * block_size_;
  events_.stored(group, hash.low64(),
                 index == 0 ? 0 : sequence.hashes[static_cast<size_t>(index) - 1].low64(),
                 std::vector<TokenId>(tokens, tokens + block_size_), sequence.adapter);
}

void KvBlockManager::fork(const Sequence& parent, Sequence& child) {
  child.tables.resize(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const KvTable& from = parent.tables[g];
    KvTable& to = child.tables[g];
    to.first_live = from.first_live;
    for (const BlockRef& block : from.blocks) to.blocks.push_back(block.share());
  }
  child.chain_root = parent.chain_root;
  child.hashes = parent.hashes;
  child.num_computed_tokens = parent.num_computed_tokens;
}

void KvBlockManager::release(Sequence& sequence) {
  for (KvTable& table : sequence.tables) {
    table.copies.clear();
    // From the end: the tail of a prefix is reused before its beginning, which more can share.
    while (!table.blocks.empty()) table.blocks.pop_back();
    table.first_live = 0;
  }
  sequence.num_computed_tokens = 0;
}

void KvBlockManager::begin_step() {
  for (Group& group : groups_) group.pool.begin_step();
}

void KvBlockManager::end_step() {
  for (Group& group : groups_) group.pool.end_step();
}

void KvBlockManager::clear_prefix_cache() {
  for (Group& group : groups_) {
    for (int i = 0; i < group.pool.num_blocks(); ++i) {
      if (group.cache.erase(BlockId(i))) group.pool.set_cached(BlockId(i), false);
    }
  }
  events_.cleared();
}

Status KvBlockManager::check_table(int group, const Sequence& sequence,
                                   std::vector<int>& owners) const {
  const Group& g = groups_[static_cast<size_t>(group)];
  const KvTable& table = sequence.tables[static_cast<size_t>(group)];
  const auto broken = [&](std::string_view what, int index) {
    return absl::InternalError(
        fmt::format("sequence {} group {} block {}: {}", sequence.id.value, group, index, what));
  };
  const int size = static_cast<int>(table.blocks.size());
  const int computed = sequence.num_computed_tokens;
  if (size < blocks_for(computed + sequence.scheduled_tokens)) return broken("table short", size);
  if (table.first_live > first_visible(g, computed)) return broken("window cut", table.first_live);
  for (int i = 0; i < size; ++i) {
    const BlockRef& block = table.blocks[static_cast<size_t>(i)];
    if (static_cast<bool>(block) != (i >= table.first_live)) return broken("null or not", i);
    if (!block) continue;
    ++owners[static_cast<size_t>(block.id().value)];
    const bool full = (i + 1) * block_size_ <= computed;
    const bool writable = !full && i * block_size_ < computed + sequence.scheduled_tokens;
    const auto hash = g.cache.hash_of(block.id());
    if (hash && !full) return broken("hash is visible before its KV is written", i);
    if (hash && (static_cast<size_t>(i) >= sequence.hashes.size() ||
                 *hash != sequence.hashes[static_cast<size_t>(i)])) {
      return broken("wrong hash", i);
    }
    if (sequence.scheduled_tokens > 0 && writable && g.pool.ref_count(block.id()) != 1) {
      return broken("writable by two", i);
    }
  }
  for (const KvTable::Copy& copy : table.copies) {
    ++owners[static_cast<size_t>(copy.from.id().value)];
  }
  return absl::OkStatus();
}

Status KvBlockManager::check_integrity(std::span<const Sequence* const> sequences) const {
  for (int g = 0; g < num_groups(); ++g) {
    const Group& group = groups_[static_cast<size_t>(g)];
    PELTON_RETURN_IF_ERROR(group.pool.check_integrity());
    PELTON_RETURN_IF_ERROR(group.cache.check_integrity());
    std::vector<int> owners(static_cast<size_t>(group.pool.num_blocks()));
    for (const Sequence* sequence : sequences) {
      PELTON_RETURN_IF_ERROR(check_table(g, *sequence, owners));
    }
    for (int i = 0; i < group.pool.num_blocks(); ++i) {
      const BlockId id(i);
      if (group.pool.ref_count(id) != owners[static_cast<size_t>(i)]) {
        return absl::InternalError(fmt::format("group {} block {}: {} references, {} owners", g, i,
                                               group.pool.ref_count(id),
                                               owners[static_cast<size_t>(i)]));
      }
      if (group.pool.cached(id) != group.cache.hash_of(id).has_value()) {
        return absl::InternalError(fmt::format("group {} block {}: cached mark", g, i));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace pelton
