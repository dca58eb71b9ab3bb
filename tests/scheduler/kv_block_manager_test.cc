#include "scheduler/kv_block_manager.h"

#include <numeric>

#include "tests/scheduler/kv_event_replay.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

constexpr int kBlock = 4;

struct Manager : KvBlockManager {
  Manager(std::vector<int> windows, std::vector<int> blocks, int max_step_tokens = 100)
      : KvBlockManager(geometry(windows), blocks, max_step_tokens, *BlockHasher::create({})),
        keep(windows.size()) {}
  static KvGeometry geometry(const std::vector<int>& windows) {
    KvGeometry geometry;
    geometry.block_size = kBlock;
    for (const int window : windows) {
      geometry.groups.emplace_back();
      geometry.groups.back().window = window;
    }
    return geometry;
  }
  Sequence sequence(std::vector<TokenId> tokens, std::string_view tenant = "") {
    Sequence s;
    s.id = SequenceId(++ids);
    s.tokens = std::move(tokens);
    open(s, tenant);
    return s;
  }
  // Gives blocks for `count` tokens and pretends that the step was run.
  int compute(Sequence& s, int count) {
    const int granted = grow(s, count, keep);
    commit(s, s.num_computed_tokens, s.num_computed_tokens + granted);
    s.num_computed_tokens += granted;
    return granted;
  }
  uint64_t ids = 0;
  std::vector<int> keep;
};

std::vector<TokenId> counting(int count) {
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

}  // namespace

TEST_CASE("a sequence gets blocks for as many tokens as fit and keeps what others were promised") {
  Manager kv({0}, {5});
  Sequence s = kv.sequence(counting(30));
  kv.keep = {2};
  CHECK(kv.compute(s, 30) == 12);
  CHECK(kv.free_blocks(0) == 2);
  CHECK(kv.compute(s, 1) == 0);
  kv.keep = {0};
  CHECK(kv.compute(s, 30) == 8);
  CHECK(kv.used_blocks() == 5);
  kv.release(s);
  CHECK(kv.used_blocks() == 0);
  CHECK(kv.check_integrity({}).ok());
}

TEST_CASE("full blocks are found again by tenant and adapter and only as far as the tokens agree") {
  Manager kv({0}, {20});
  Sequence s = kv.sequence(counting(11), "a");
  CHECK(kv.compute(s, 11) == 11);
  Sequence same = kv.sequence(counting(11), "a");
  CHECK(kv.find_prefix(same, 11) == 8);
  CHECK(kv.find_prefix(same, 7) == 4);
  CHECK(kv.find_prefix(same, 3) == 0);
  Sequence other_tenant = kv.sequence(counting(11), "b");
  CHECK(kv.find_prefix(other_tenant, 11) == 0);
  std::vector<TokenId> differs = counting(11);
  differs[5] = 99;
  Sequence parts = kv.sequence(differs, "a");
  CHECK(kv.find_prefix(parts, 11) == 4);

  kv.attach_prefix(same, 8);
  CHECK(same.num_computed_tokens == 8);
  CHECK(same.tables[0].blocks[0].id() == s.tables[0].blocks[0].id());
  CHECK(kv.pool(0).ref_count(same.tables[0].blocks[1].id()) == 2);
  const Sequence* all[] = {&s, &same};
  CHECK(kv.check_integrity(all).ok());
  kv.release(s);
  kv.release(same);
  CHECK(kv.find_prefix(parts, 11) == 4);  // free, and remembered until it is used for another
}

TEST_CASE("a block's content is forgotten when the block is used for another from the tail on") {
  Manager kv({0}, {4});
  Sequence s = kv.sequence(counting(16));
  kv.compute(s, 16);
  kv.release(s);
  Sequence probe = kv.sequence(counting(16));
  CHECK(kv.find_prefix(probe, 16) == 16);
  Sequence other = kv.sequence(std::vector<TokenId>(6, 7));
  kv.compute(other, 6);
  CHECK(kv.find_prefix(probe, 16) == 8);
  kv.release(other);
  kv.clear_prefix_cache();
  CHECK(kv.find_prefix(probe, 16) == 0);
  KvEventReplay replay;
  replay.follow(kv.events());
  CHECK(replay.index.empty());
}

TEST_CASE("forks share their blocks and copy the one that both go on writing") {
  Manager kv({0}, {20});
  Sequence parent = kv.sequence(counting(10));
  kv.compute(parent, 6);
  Sequence child = kv.sequence(counting(10));
  kv.fork(parent, child);
  CHECK(kv.used_blocks() == 2);
  CHECK(kv.grow(child, 1, kv.keep) == 1);
  REQUIRE(child.tables[0].copies.size() == 1);
  CHECK(child.tables[0].copies[0].from.id() == parent.tables[0].blocks[1].id());
  CHECK(child.tables[0].copies[0].to == child.tables[0].blocks[1].id());
  CHECK(child.tables[0].blocks[0].id() == parent.tables[0].blocks[0].id());
  CHECK(kv.grow(parent, 1, kv.keep) == 1);  // the copy's source is held until it is done
  CHECK(parent.tables[0].copies.size() == 1);
  child.scheduled_tokens = parent.scheduled_tokens = 1;
  const Sequence* all[] = {&parent, &child};
  CHECK(kv.check_integrity(all).message() == "");
  for (Sequence* s : {&parent, &child}) {
    kv.commit(*s, 6, 7);
    s->num_computed_tokens = 7;
    s->scheduled_tokens = 0;
    CHECK(s->tables[0].copies.empty());
  }
  CHECK(kv.used_blocks() == 3);
  CHECK(kv.check_integrity(all).ok());
  kv.release(parent);
  kv.release(child);
}

TEST_CASE("a step back over a full block takes its content out of the cache before it changes") {
  Manager kv({0}, {20});
  Sequence s = kv.sequence(counting(12));
  kv.compute(s, 9);
  CHECK(kv.prefix_cache(0).size() == 2);
  s.num_computed_tokens = 6;
  CHECK(kv.grow(s, 1, kv.keep) == 1);
  CHECK(kv.prefix_cache(0).size() == 1);
  CHECK(s.tables[0].copies.empty());
  kv.release(s);
}

TEST_CASE("a window group gives back what lies before the window and nothing that is seen") {
  Manager kv({0, 6}, {20, 20});
  Sequence s = kv.sequence(counting(40));
  for (int i = 0; i < 40; ++i) {
    REQUIRE(kv.compute(s, 1) == 1);
    // The token just computed saw back to position i - 5.
    const int first_seen = std::max(0, i - 5) / kBlock;
    REQUIRE(s.tables[1].first_live == first_seen);
    REQUIRE(s.tables[0].first_live == 0);
    const Sequence* all[] = {&s};
    REQUIRE(kv.check_integrity(all).ok());
  }
  CHECK(s.tables[0].num_held() == 10);
  CHECK(s.tables[1].num_held() <= 3);
  kv.release(s);
}

TEST_CASE("a prefix is found where full groups hold all and window groups what the window sees") {
  Manager kv({0, 6}, {20, 20});
  Sequence s = kv.sequence(counting(40));
  for (int i = 0; i < 40; i += 4) kv.compute(s, 4);
  kv.release(s);
  Sequence probe = kv.sequence(counting(41));
  REQUIRE(kv.find_prefix(probe, 40) == 40);
  kv.attach_prefix(probe, 40);
  CHECK(probe.tables[0].num_held() == 10);
  // The next query, at 40, sees positions 35 to 40.
  CHECK(probe.tables[1].first_live == 8);
  CHECK(probe.tables[1].num_held() == 2);
  kv.release(probe);

  // Ten blocks of window tail lie cached; others' use takes the least recently used first. What is
  // left of the window group decides how long a prefix can be found.
  Sequence other = kv.sequence(std::vector<TokenId>(48, 7));
  kv.compute(other, 48);
  Sequence again = kv.sequence(counting(41));
  const int found = kv.find_prefix(again, 40);
  CHECK(found % kBlock == 0);
  for (int b = std::max(0, found + 1 - 6) / kBlock; b < found / kBlock; ++b) {
    CHECK(kv.prefix_cache(1).find(again.hashes[static_cast<size_t>(b)]) != kNoBlock);
  }
  kv.release(other);
}

TEST_CASE("a small window pool bounds the chunk and not the length") {
  Manager kv({6}, {4}, 100);
  CHECK(kv.max_sequence_tokens() == std::numeric_limits<int>::max());
  CHECK(kv.max_chunk_tokens() == 16 - 4 - 5);
  Sequence s = kv.sequence(counting(100));
  for (int done = 0; done < 100;) {
    const int got = kv.compute(s, std::min(kv.max_chunk_tokens(), 100 - done));
    REQUIRE(got > 0);
    REQUIRE(s.tables[0].num_held() <= kv.peak_blocks(0, 100));
    done += got;
  }
  kv.release(s);
  // Too small to slide at all: it is filled once.
  Manager tiny({6}, {2}, 100);
  CHECK(tiny.max_sequence_tokens() == 8);
}

TEST_CASE("the integrity check of the block manager sees what it is for") {
  Manager kv({0}, {20});
  Sequence s = kv.sequence(counting(12));
  kv.compute(s, 9);
  const Sequence* all[] = {&s};
  REQUIRE(kv.check_integrity(all).ok());
  CHECK_FALSE(kv.check_integrity({}).ok());  // references without owners
  s.num_computed_tokens = 3;                 // a hash before its KV
  CHECK_FALSE(kv.check_integrity(all).ok());
  s.num_computed_tokens = 13;  // more tokens than blocks
  CHECK_FALSE(kv.check_integrity(all).ok());
  s.num_computed_tokens = 9;
  kv.release(s);
}

}  // namespace pelton
