// Finds blocks by what they hold. A block's hash covers its whole prefix: a keyed BLAKE2b-256 chain
// whose root binds tenant and adapter, so that nobody finds (or forges) another tenant's blocks.
// Engine thread only.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/ids.h"
#include "core/status.h"

namespace pelton {

struct BlockHash {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const BlockHash&) const = default;

  // What leaves the process (KV events). Stable within a process only: the key is random.
  uint64_t low64() const {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
};

// BLAKE2b (RFC 7693) in its keyed mode, 32 bytes out.
class BlockHasher {
 public:
  using Key = std::array<uint8_t, 32>;

  // From the operating system's generator; UNAVAILABLE where that fails.
  static StatusOr<Key> random_key();
  // UNIMPLEMENTED where OpenSSL was built without BLAKE2b.
  static StatusOr<std::unique_ptr<BlockHasher>> create(const Key& key);
  ~BlockHasher();
  BlockHasher(const BlockHasher&) = delete;
  BlockHasher& operator=(const BlockHasher&) = delete;

  // The parent of a sequence's first block.
  BlockHash root(std::string_view tenant, AdapterId adapter);
  // `tokens`: one full block.
  BlockHash block(const BlockHash& parent, std::span<const TokenId> tokens);

 private:
  struct Mac;
  explicit BlockHasher(std::unique_ptr<Mac> mac);
  std::unique_ptr<Mac> mac_;
};

// Hash to block and back, for the blocks of one KV group.
class PrefixCache {
 public:
  explicit PrefixCache(int num_blocks) : hashes_(static_cast<size_t>(num_blocks)) {}

  BlockId find(const BlockHash& hash) const;  // kNoBlock where unknown
  // False, and nothing changes, where the hash is known or the block already has one.
  bool insert(const BlockHash& hash, BlockId block);
  // The block's content goes; its hash, where it had one.
  std::optional<BlockHash> erase(BlockId block);
  std::optional<BlockHash> hash_of(BlockId block) const {
    return hashes_[static_cast<size_t>(block.value)];
  }
  int size() const { return static_cast<int>(blocks_.size()); }

  Status check_integrity() const;

 private:
  struct HashOf {
    // The hash is keyed and uniform: any 64 bits of it spread well, and nobody can aim at a bucket.
    size_t operator()(const BlockHash& hash) const { return hash.low64(); }
  };
  std::unordered_map<BlockHash, BlockId, HashOf> blocks_;
  std::vector<std::optional<BlockHash>> hashes_;  // [num_blocks]
};

}  // namespace pelton
