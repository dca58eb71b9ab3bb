#include "scheduler/kv_events.h"

#include <algorithm>
#include <utility>

namespace pelton {

void KvEventLog::stored(int group, uint64_t hash, uint64_t parent, std::vector<TokenId> tokens,
                        AdapterId adapter) {
  const std::lock_guard lock(mutex_);
  KvEvent event{next_, KvEvent::Kind::kStored, group, hash, parent, std::move(tokens), adapter};
  index_[static_cast<size_t>(group)].insert_or_assign(hash, event);
  push(std::move(event));
}

void KvEventLog::removed(int group, uint64_t hash) {
  const std::lock_guard lock(mutex_);
  index_[static_cast<size_t>(group)].erase(hash);
  push({next_, KvEvent::Kind::kRemoved, group, hash, 0, {}, {}});
}

void KvEventLog::cleared() {
  const std::lock_guard lock(mutex_);
  for (auto& group : index_) group.clear();
  push({next_, KvEvent::Kind::kCleared, 0, 0, 0, {}, {}});
}

void KvEventLog::push(KvEvent event) {
  ring_.push_back(std::move(event));
  ++next_;
  if (ring_.size() > capacity_) ring_.pop_front();
}

KvEventBatch KvEventLog::read(uint64_t from, size_t max) const {
  const std::lock_guard lock(mutex_);
  KvEventBatch batch;
  const uint64_t oldest = next_ - ring_.size();
  if (from < oldest || from > next_) {
    batch.snapshot = true;
    batch.next = next_;
    for (const auto& group : index_) {
      for (const auto& [hash, event] : group) batch.events.push_back(event);
    }
    std::sort(batch.events.begin(), batch.events.end(),
              [](const KvEvent& a, const KvEvent& b) { return a.number < b.number; });
    return batch;
  }
  const size_t first = from - oldest;
  const size_t last = std::min(ring_.size(), first + max);
  batch.events.assign(ring_.begin() + static_cast<std::ptrdiff_t>(first),
                      ring_.begin() + static_cast<std::ptrdiff_t>(last));
  batch.next = from + batch.events.size();
  return batch;
}

}  // namespace pelton
