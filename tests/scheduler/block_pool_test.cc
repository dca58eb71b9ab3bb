#include "scheduler/block_pool.h"

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("a block pool hands out each block once and then none") {
  BlockPool pool(3);
  std::vector<BlockRef> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(pool.allocate());
    CHECK(held.back().id() == BlockId(i));
  }
  CHECK_FALSE(pool.allocate());
  CHECK(pool.num_owned() == 3);
  held.clear();
  CHECK(pool.num_free() == 3);
  CHECK(pool.check_integrity().ok());
}

TEST_CASE("a shared block is free only when its last owner lets go") {
  BlockPool pool(2);
  BlockRef first = pool.allocate();
  BlockRef second = first.share();
  BlockRef moved = std::move(first);
  CHECK_FALSE(first);
  CHECK(first.id() == kNoBlock);
  CHECK(pool.ref_count(second.id()) == 2);
  moved.reset();
  CHECK(pool.num_free() == 1);
  second = BlockRef();
  CHECK(pool.num_free() == 2);
  CHECK(pool.check_integrity().ok());
}

TEST_CASE("free blocks are reused uncached first and then the least recently used") {
  BlockPool pool(4);
  std::vector<BlockRef> held;
  for (int i = 0; i < 4; ++i) held.push_back(pool.allocate());
  for (int i : {0, 1, 2}) pool.set_cached(BlockId(i), true);
  for (int i : {2, 0, 3, 1}) held[i].reset();
  std::vector<int> order;
  for (int i = 0; i < 4; ++i) {
    held[i] = pool.allocate();
    CHECK_FALSE(pool.cached(held[i].id()));
    order.push_back(held[i].id().value);
  }
  CHECK(order == std::vector<int>{3, 2, 0, 1});
}

TEST_CASE("a cached free block can be acquired again from anywhere in the free list") {
  BlockPool pool(3);
  {
    std::vector<BlockRef> held;
    for (int i = 0; i < 3; ++i) {
      held.push_back(pool.allocate());
      pool.set_cached(held.back().id(), true);
    }
  }
  for (int i : {1, 0, 2}) {
    BlockRef ref = pool.acquire(BlockId(i));
    CHECK(pool.num_free() == 2);
    CHECK(pool.check_integrity().ok());
  }
  CHECK(pool.num_free() == 3);
}

TEST_CASE("blocks freed while a step is in flight become free when it ends") {
  BlockPool pool(2);
  BlockRef a = pool.allocate();
  BlockRef b = pool.allocate();
  pool.set_cached(a.id(), true);
  const BlockId id = a.id();
  pool.begin_step();
  a.reset();
  b.reset();
  CHECK(pool.num_free() == 0);
  CHECK(pool.num_pending() == 2);
  CHECK_FALSE(pool.allocate());
  CHECK(pool.check_integrity().ok());
  a = pool.acquire(id);  // a pending block whose content is known may come back
  CHECK(pool.num_pending() == 1);
  a.reset();
  pool.end_step();
  CHECK(pool.num_free() == 2);
  CHECK(pool.num_pending() == 0);
  CHECK(pool.check_integrity().ok());
}

}  // namespace pelton
