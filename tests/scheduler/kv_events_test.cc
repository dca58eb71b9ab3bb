#include "scheduler/kv_events.h"

#include <functional>

#include "tests/scheduler/kv_event_replay.h"
#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("KV events come numbered without gaps and in pages") {
  KvEventLog log(1);
  for (uint64_t i = 1; i <= 5; ++i) log.stored(0, i, i - 1, {static_cast<TokenId>(i)}, {});
  log.removed(0, 3);
  KvEventBatch page = log.read({}, 4);
  CHECK_FALSE(page.snapshot);
  REQUIRE(page.events.size() == 4);
  CHECK(page.events[3].number == 4);
  CHECK(page.events[3].parent == 3);
  CHECK(page.next == KvEventPosition{5, 0});
  page = log.read(page.next, 4);
  REQUIRE(page.events.size() == 2);
  CHECK(page.events[1].kind == KvEvent::Kind::kRemoved);
  page = log.read(page.next);
  CHECK(page.events.empty());
  CHECK(page.next == KvEventPosition{7, 0});
}

TEST_CASE("a late reader of KV events gets the whole index and then what follows") {
  KvEventLog log(2, 3);
  for (uint64_t i = 1; i <= 10; ++i) log.stored(i % 2 == 0, i, 0, {}, {});
  log.removed(0, 5);
  KvEventReplay late;
  late.follow(log);
  CHECK(late.snapshots == 1);
  CHECK(late.index.size() == 9);
  CHECK(late.index.count({0, 5}) == 0);
  log.removed(1, 2);
  late.follow(log);
  CHECK(late.snapshots == 1);
  CHECK(late.index.size() == 8);
  log.cleared();
  late.follow(log);
  CHECK(late.index.empty());
  // A number of another life of the server is unknown too.
  CHECK(log.read({1000, 0}).snapshot);
}

TEST_CASE("a snapshot comes in pages and is whole with the events since its begin") {
  KvEventLog log(1, 50);
  for (uint64_t i = 1; i <= 100; ++i) log.stored(0, i, 0, {}, {});
  KvEventReplay reader;
  int pages = 0;
  // While it reads, blocks go that it has seen and that it has not, and others come.
  const auto step = [&] {
    ++pages;
    log.removed(0, static_cast<uint64_t>(pages));
    log.removed(0, static_cast<uint64_t>(101 - pages));
    log.stored(0, static_cast<uint64_t>(1000 + pages), 0, {}, {});
  };
  struct Source {
    const KvEventLog& log;
    const std::function<void()>& between;
    KvEventBatch read(KvEventPosition at, size_t max) const {
      const KvEventBatch batch = log.read(at, max);
      CHECK(batch.events.size() <= max);
      if (batch.next.snapshot_end > 0) between();
      return batch;
    }
  };
  const std::function<void()> between = step;
  reader.follow(Source{log, between});
  CHECK(pages == 5);
  CHECK(reader.snapshots == 1);
  KvEventReplay fresh;
  fresh.follow(log);
  CHECK(reader.index == fresh.index);
  CHECK(reader.index.size() == 100 - 10 + 5);
}

TEST_CASE("a snapshot that takes too long begins anew") {
  KvEventLog log(1, 10);
  for (uint64_t i = 1; i <= 100; ++i) log.stored(0, i, 0, {}, {});
  KvEventBatch page = log.read({}, 16);
  CHECK(page.snapshot);
  for (uint64_t i = 1; i <= 11; ++i) log.removed(0, i);
  page = log.read(page.next, 16);
  CHECK(page.snapshot);
  CHECK(page.events.front().hash == 12);
}

}  // namespace pelton
