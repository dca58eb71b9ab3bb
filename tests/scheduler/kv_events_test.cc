#include "scheduler/kv_events.h"

#include "tests/scheduler/kv_event_replay.h"
#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("KV events come numbered without gaps and in pages") {
  KvEventLog log(1);
  for (uint64_t i = 1; i <= 5; ++i) log.stored(0, i, i - 1, {static_cast<TokenId>(i)}, {});
  log.removed(0, 3);
  KvEventBatch page = log.read(1, 4);
  CHECK_FALSE(page.snapshot);
  REQUIRE(page.events.size() == 4);
  CHECK(page.events[3].number == 4);
  CHECK(page.events[3].parent == 3);
  CHECK(page.next == 5);
  page = log.read(page.next, 4);
  REQUIRE(page.events.size() == 2);
  CHECK(page.events[1].kind == KvEvent::Kind::kRemoved);
  page = log.read(page.next);
  CHECK(page.events.empty());
  CHECK(page.next == 7);
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
  CHECK(log.read(1000).snapshot);
}

}  // namespace pelton
