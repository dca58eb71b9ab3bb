// What happens to the prefix cache, for routers that send a request where its prefix is: a bounded
// ring of numbered events; a reader that comes too late gets the whole index instead. Written by
// the engine thread, read by any.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/ids.h"

namespace pelton {

struct KvEvent {
  enum class Kind : uint8_t { kStored, kRemoved, kCleared };

  uint64_t number = 0;  // 1, 2, ... without gaps
  Kind kind = Kind::kStored;
  int group = 0;                // index into KvGeometry::groups
  uint64_t hash = 0;            // of the block (stored, removed)
  uint64_t parent = 0;          // of the block before it; 0: first of its sequence (stored)
  std::vector<TokenId> tokens;  // [block_size] (stored)
  AdapterId adapter;            // (stored)
};

struct KvEventBatch {
  // The reader forgets what it knew: `events` are the blocks stored now, oldest first.
  bool snapshot = false;
  std::vector<KvEvent> events;
  uint64_t next = 1;  // ask for this number the next time
};

class KvEventLog {
 public:
  explicit KvEventLog(int num_groups, size_t capacity = 4096)
      : capacity_(capacity), index_(static_cast<size_t>(num_groups)) {}

  void stored(int group, uint64_t hash, uint64_t parent, std::vector<TokenId> tokens,
              AdapterId adapter);
  void removed(int group, uint64_t hash);
  void cleared();

  // Events from number `from` on, at most `max`. Start with 1. A number that the ring no longer
  // holds (or never gave) is answered with a snapshot, which `max` does not cut.
  KvEventBatch read(uint64_t from, size_t max = 1024) const;

 private:
  void push(KvEvent event);

  mutable std::mutex mutex_;
  const size_t capacity_;
  uint64_t next_ = 1;
  std::deque<KvEvent> ring_;
  // What a replay of all events gives, by group and hash: the snapshot.
  std::vector<std::unordered_map<uint64_t, KvEvent>> index_;
};

}  // namespace pelton
