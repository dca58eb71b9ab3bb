// The blocks of one KV group: reference counts, the free list in order of last use, and frees that
// wait for the step in flight. Engine thread only. A BlockRef owns one reference; the pool outlives
// every BlockRef.
#pragma once

#include <utility>
#include <vector>

#include "core/ids.h"
#include "core/status.h"

namespace pelton {

class BlockPool;

inline constexpr BlockId kNoBlock{-1};

// One reference to a block, given back when it goes. Null by default.
class BlockRef {
 public:
  BlockRef() = default;
  BlockRef(BlockRef&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), id_(std::exchange(other.id_, kNoBlock)) {}
  BlockRef& operator=(BlockRef&& other) noexcept;
  BlockRef(const BlockRef&) = delete;
  BlockRef& operator=(const BlockRef&) = delete;
  ~BlockRef() { reset(); }

  BlockRef share() const;  // one reference more; null of a null
  void reset();
  BlockId id() const { return id_; }  // kNoBlock when null
  explicit operator bool() const { return pool_ != nullptr; }

 private:
  friend class BlockPool;
  BlockRef(BlockPool* pool, BlockId id) : pool_(pool), id_(id) {}

  BlockPool* pool_ = nullptr;
  BlockId id_ = kNoBlock;
};

class BlockPool {
 public:
  explicit BlockPool(int num_blocks);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // The free block that was used least recently, those that hold nothing reusable first; its cached
  // mark is taken away. Null when none is free.
  BlockRef allocate();
  // A reference to a block whose content is known: owned already, or free and cached.
  BlockRef acquire(BlockId id);
  // Whether a free block is worth keeping (the prefix cache knows its content).
  void set_cached(BlockId id, bool cached);

  // Between the two, a block that loses its last reference stays pending: the device may still use
  // it. end_step() makes the pending ones free.
  void begin_step() { step_in_flight_ = true; }
  void end_step();

  int num_blocks() const { return static_cast<int>(blocks_.size()); }
  int num_free() const { return num_free_; }
  int num_pending() const { return num_pending_; }
  int num_owned() const { return num_blocks() - num_free_ - num_pending_; }
  int ref_count(BlockId id) const { return at(id).ref_count; }
  bool cached(BlockId id) const { return at(id).cached; }

  // INTERNAL where counts, states and the free list disagree.
  Status check_integrity() const;

 private:
  friend class BlockRef;
  enum class State : uint8_t { kFree, kOwned, kPending };
  struct Block {
    int ref_count = 0;
    State state = State::kFree;
    bool cached = false;
    int previous = -1;  // free list; -1: none
    int next = -1;
  };

  Block& at(BlockId id) { return blocks_[static_cast<size_t>(id.value)]; }
  const Block& at(BlockId id) const { return blocks_[static_cast<size_t>(id.value)]; }
  void release(BlockId id);
  void link_free(BlockId id);
  void unlink_free(BlockId id);

  std::vector<Block> blocks_;
  std::vector<BlockId> pending_;
  int first_free_ = -1;  // next to be used
  int last_free_ = -1;
  int num_free_ = 0;
  int num_pending_ = 0;
  bool step_in_flight_ = false;
};

}  // namespace pelton
