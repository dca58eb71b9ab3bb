#include "scheduler/block_pool.h"

#include <fmt/format.h>

#include "core/check.h"

namespace pelton {

BlockRef& BlockRef::operator=(BlockRef&& other) noexcept {
  if (this != &other) {
    reset();
    pool_ = std::exchange(other.pool_, nullptr);
    id_ = std::exchange(other.id_, kNoBlock);
  }
  return *this;
}

BlockRef BlockRef::share() const {
  if (pool_ == nullptr) return {};
  return pool_->acquire(id_);
}

void BlockRef::reset() {
  if (pool_ == nullptr) return;
  std::exchange(pool_, nullptr)->release(std::exchange(id_, kNoBlock));
}

BlockPool::BlockPool(int num_blocks) : blocks_(static_cast<size_t>(num_blocks)) {
  PELTON_CHECK(num_blocks > 0, "a KV group without blocks");
  // Linked from the last: link_free puts what is not cached in front, so block 0 is used first.
  for (int i = num_blocks - 1; i >= 0; --i) link_free(BlockId(i));
}

BlockRef BlockPool::allocate() {
  if (first_free_ < 0) return {};
  const BlockId id(first_free_);
  unlink_free(id);
  Block& block = at(id);
  block.state = State::kOwned;
  block.ref_count = 1;
  block.cached = false;
  return BlockRef(this, id);
}

BlockRef BlockPool::acquire(BlockId id) {
  Block& block = at(id);
  if (block.state == State::kFree) unlink_free(id);
  if (block.state == State::kPending) --num_pending_;
  block.state = State::kOwned;
  ++block.ref_count;
  return BlockRef(this, id);
}

void BlockPool::set_cached(BlockId id, bool cached) {
  at(id).cached = cached;
}

void BlockPool::release(BlockId id) {
  Block& block = at(id);
  PELTON_CHECK(block.ref_count > 0, "a block was released twice");
  if (--block.ref_count > 0) return;
  if (step_in_flight_) {
    block.state = State::kPending;
    ++num_pending_;
    pending_.push_back(id);
  } else {
    link_free(id);
  }
}

void BlockPool::end_step() {
  step_in_flight_ = false;
  // A block that was acquired again meanwhile is no longer pending, and may be listed twice.
  for (const BlockId id : pending_) {
    if (at(id).state != State::kPending) continue;
    --num_pending_;
    link_free(id);
  }
  pending_.clear();
}

void BlockPool::link_free(BlockId id) {
  Block& block = at(id);
  block.state = State::kFree;
  if (block.cached) {
    block.previous = last_free_;
    block.next = -1;
    (last_free_ < 0 ? first_free_ : at(BlockId(last_free_)).next) = id.value;
    last_free_ = id.value;
  } else {
    block.previous = -1;
    block.next = first_free_;
    (first_free_ < 0 ? last_free_ : at(BlockId(first_free_)).previous) = id.value;
    first_free_ = id.value;
  }
  ++num_free_;
}

void BlockPool::unlink_free(BlockId id) {
  Block& block = at(id);
  (block.previous < 0 ? first_free_ : at(BlockId(block.previous)).next) = block.next;
  (block.next < 0 ? last_free_ : at(BlockId(block.next)).previous) = block.previous;
  block.previous = block.next = -1;
  --num_free_;
}

Status BlockPool::check_integrity() const {
  int listed = 0;
  int previous = -1;
  for (int i = first_free_; i >= 0; i = at(BlockId(i)).next) {
    const Block& block = at(BlockId(i));
    if (block.state != State::kFree || block.previous != previous || ++listed > num_blocks()) {
      return absl::InternalError(fmt::format("free list is broken at block {}", i));
    }
    previous = i;
  }
  if (previous != last_free_ || listed != num_free_) {
    return absl::InternalError(
        fmt::format("free list holds {} blocks, the count says {}", listed, num_free_));
  }
  int pending = 0;
  int owned = 0;
  for (int i = 0; i < num_blocks(); ++i) {
    const Block& block = at(BlockId(i));
    if ((block.state == State::kOwned) != (block.ref_count > 0)) {
      return absl::InternalError(fmt::format("block {} has {} references", i, block.ref_count));
    }
    pending += block.state == State::kPending;
    owned += block.state == State::kOwned;
  }
  if (pending != num_pending_ || listed + pending + owned != num_blocks()) {
    return absl::InternalError(fmt::format("{} free, {} pending, {} owned of {} blocks", listed,
                                           pending, owned, num_blocks()));
  }
  return absl::OkStatus();
}

}  // namespace pelton
