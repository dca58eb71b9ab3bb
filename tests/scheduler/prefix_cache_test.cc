#include "scheduler/prefix_cache.h"

#include "scheduler/block_pool.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

std::unique_ptr<BlockHasher> hasher(uint8_t first_key_byte) {
  BlockHasher::Key key{};
  key[0] = first_key_byte;
  auto made = BlockHasher::create(key);
  REQUIRE(made.ok());
  return *std::move(made);
}

}  // namespace

TEST_CASE("a block hash depends on key and tenant and adapter and parent and every token") {
  auto one = hasher(1);
  const std::vector<TokenId> tokens{5, 6, 7, 8};
  const BlockHash root = one->root("tenant", AdapterId(0));
  const BlockHash base = one->block(root, tokens);
  CHECK(one->root("tenant", AdapterId(0)) == root);
  CHECK(one->block(root, tokens) == base);
  CHECK(hasher(1)->block(root, tokens) == base);

  CHECK(hasher(2)->block(root, tokens) != base);
  CHECK(one->root("tenant2", AdapterId(0)) != root);
  CHECK(one->root("", AdapterId(0)) != root);
  CHECK(one->root("tenant", AdapterId(1)) != root);
  CHECK(one->block(base, tokens) != base);
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::vector<TokenId> changed = tokens;
    changed[i] += 1;
    CHECK(one->block(root, changed) != base);
  }
  CHECK(one->block(root, std::span(tokens).first(3)) != base);
}

// RFC 7693 has no keyed vector of this length; Python's hashlib.blake2b(b"\x01" + bytes(32) +
// bytes([1,0,0,0,2,0,0,0]), key=bytes(range(32)), digest_size=32) gave this one.
TEST_CASE("the block hash is keyed BLAKE2b of 32 bytes over tag and parent and tokens") {
  BlockHasher::Key key{};
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(i);
  auto made = BlockHasher::create(key);
  REQUIRE(made.ok());
  const BlockHash hash = (*made)->block(BlockHash{}, std::vector<TokenId>{1, 2});
  const std::array<uint8_t, 32> expected = {0x21, 0x58, 0xa5, 0xe4, 0x0c, 0x9c, 0x4b, 0x08,
                                            0x2f, 0x0f, 0xbb, 0x86, 0xdd, 0x30, 0xae, 0x1f,
                                            0x4c, 0x94, 0x6c, 0x4a, 0xb2, 0xf5, 0xa3, 0xb0,
                                            0xda, 0xaf, 0x42, 0x40, 0x69, 0x3f, 0x1e, 0xdc};
  CHECK(hash.bytes == expected);
}

TEST_CASE("random hash keys differ") {
  auto a = BlockHasher::random_key();
  auto b = BlockHasher::random_key();
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  CHECK(*a != *b);
}

TEST_CASE("the prefix cache keeps the first block of a hash until it is erased") {
  auto h = hasher(1);
  PrefixCache cache(4);
  const BlockHash a = h->block(BlockHash{}, std::vector<TokenId>{1});
  const BlockHash b = h->block(BlockHash{}, std::vector<TokenId>{2});
  CHECK(cache.find(a) == kNoBlock);
  CHECK(cache.insert(a, BlockId(2)));
  CHECK_FALSE(cache.insert(a, BlockId(3)));
  CHECK_FALSE(cache.insert(b, BlockId(2)));
  CHECK(cache.find(a) == BlockId(2));
  CHECK(cache.find(b) == kNoBlock);
  CHECK(cache.check_integrity().ok());
  CHECK(cache.erase(BlockId(2)) == a);
  CHECK_FALSE(cache.erase(BlockId(2)));
  CHECK(cache.find(a) == kNoBlock);
  CHECK(cache.size() == 0);
  CHECK(cache.check_integrity().ok());
}

}  // namespace pelton
