// A router's view in tests: follows the KV events and keeps the index that they describe.
#pragma once

#include <map>
#include <utility>

#include "scheduler/kv_events.h"

namespace pelton {

struct KvEventReplay {
  std::map<std::pair<int, uint64_t>, std::vector<TokenId>> index;
  KvEventPosition next;
  int snapshots = 0;

  template <typename Source>
  void follow(const Source& source) {
    for (;;) {
      const KvEventBatch batch = source.read(next, 16);
      if (batch.snapshot) {
        index.clear();
        ++snapshots;
      }
      for (const KvEvent& event : batch.events) apply(event);
      next = batch.next;
      if (batch.events.empty() && !batch.snapshot && next.snapshot_end == 0) return;
    }
  }

 private:
  void apply(const KvEvent& event) {
    switch (event.kind) {
      case KvEvent::Kind::kStored:
        index[{event.group, event.hash}] = event.tokens;
        break;
      case KvEvent::Kind::kRemoved:
        index.erase({event.group, event.hash});
        break;
      case KvEvent::Kind::kCleared:
        index.clear();
        break;
    }
  }
};

}  // namespace pelton
