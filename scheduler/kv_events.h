// What happens to the prefix cache, for routers that send a request where its prefix is: a bounded
// ring of numbered events; a reader that comes too late gets the index instead, page by page.
// Written by the engine thread, which a reader holds up for a page of pointers at most.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
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

// Where a reader stands. It starts with the default and goes on with what each batch gives.
struct KvEventPosition {
  uint64_t next = 1;          // number of the event it wants
  uint64_t snapshot_end = 0;  // > 0: within a snapshot, which the events from here on complete
  bool operator==(const KvEventPosition&) const = default;
};

struct KvEventBatch {
  // The reader forgets what it knew: here begin the blocks stored now, oldest first. Further pages
  // of them may follow, and then the events since; only with these the index is whole.
  bool snapshot = false;
  std::vector<KvEvent> events;
  KvEventPosition next;
};

class KvEventLog {
 public:
  explicit KvEventLog(int num_groups, size_t capacity = 4096)
      : capacity_(capacity), index_(static_cast<size_t>(num_groups)) {}

  void stored(int group, uint64_t hash, uint64_t parent, std::vector<TokenId> tokens,
              AdapterId adapter);
  void removed(int group, uint64_t hash);
  void cleared();

  // At most `max` (>= 1) events. A number that the ring no longer holds (or never gave), or a
  // snapshot so old that the events since its begin are gone, is answered with a new snapshot.
  KvEventBatch read(KvEventPosition at, size_t max = 1024) const;

 private:
  using Event = std::shared_ptr<const KvEvent>;
  void push(KvEvent event);

  mutable std::mutex mutex_;
  const size_t capacity_;
  uint64_t next_ = 1;
  std::deque<Event> ring_;
  // What a replay of all events gives: the blocks stored now by number, and where each is.
  std::map<uint64_t, Event> stored_;
  std::vector<std::unordered_map<uint64_t, uint64_t>> index_;  // [groups] hash -> number
};

}  // namespace pelton
