#include "scheduler/kv_events.h"

#include <algorithm>
#include <utility>

namespace pelton {

void KvEventLog::stored(int group, uint64_t hash, uint64_t parent, std::vector<TokenId> tokens,
                        AdapterId adapter) {
  const std::lock_guard lock(mutex_);
  const uint64_t number = next_;
  push({number, KvEvent::Kind::kStored, group, hash, parent, std::move(tokens), adapter});
  const auto [found, is_new] = index_[static_cast<size_t>(group)].try_emplace(hash, number);
  if (!is_new) stored_.erase(std::exchange(found->second, number));
  stored_.emplace_hint(stored_.end(), number, ring_.back());
}

void KvEventLog::removed(int group, uint64_t hash) {
  const std::lock_guard lock(mutex_);
  auto& index = index_[static_cast<size_t>(group)];
  if (const auto found = index.find(hash); found != index.end()) {
    stored_.erase(found->second);
    index.erase(found);
  }
  push({next_, KvEvent::Kind::kRemoved, group, hash, 0, {}, {}});
}

void KvEventLog::cleared() {
  const std::lock_guard lock(mutex_);
  for (auto& group : index_) group.clear();
  stored_.clear();
  push({next_, KvEvent::Kind::kCleared, 0, 0, 0, {}, {}});
}

void KvEventLog::push(KvEvent event) {
  ring_.push_back(std::make_shared<const KvEvent>(std::move(event)));
  ++next_;
  if (ring_.size() > capacity_) ring_.pop_front();
}

KvEventBatch KvEventLog::read(KvEventPosition at, size_t max) const {
  KvEventBatch batch;
  std::vector<Event> page;
  {
    const std::lock_guard lock(mutex_);
    const uint64_t oldest = next_ - ring_.size();
    const uint64_t needed = at.snapshot_end > 0 ? at.snapshot_end : at.next;
    if (needed < oldest || needed > next_ || at.next > needed) {
      batch.snapshot = true;
      at = {1, next_};
    }
    if (at.snapshot_end > 0) {
      auto it = stored_.lower_bound(at.next);
      for (; it != stored_.end() && it->first < at.snapshot_end && page.size() < max; ++it) {
        page.push_back(it->second);
      }
      const bool more = it != stored_.end() && it->first < at.snapshot_end;
      batch.next =
          more ? KvEventPosition{it->first, at.snapshot_end} : KvEventPosition{at.snapshot_end, 0};
    } else {
      const auto first = ring_.begin() + static_cast<std::ptrdiff_t>(at.next - oldest);
      const size_t count = std::min(max, static_cast<size_t>(ring_.end() - first));
      page.assign(first, first + static_cast<std::ptrdiff_t>(count));
      batch.next = {at.next + count, 0};
    }
  }
  for (const Event& event : page) batch.events.push_back(*event);
  return batch;
}

}  // namespace pelton
