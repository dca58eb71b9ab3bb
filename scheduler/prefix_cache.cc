#include "scheduler/prefix_cache.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "core/check.h"
#include "scheduler/block_pool.h"

namespace pelton {
namespace {

// The first byte of what is hashed, so that a root and a block can never be the same message.
constexpr uint8_t kRootTag = 0;
constexpr uint8_t kBlockTag = 1;

}  // namespace

struct BlockHasher::Mac {
  EVP_MAC* algorithm = nullptr;
  EVP_MAC_CTX* context = nullptr;

  ~Mac() {
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(algorithm);
  }
  // Without a key the one given at creation is used again.
  void begin(uint8_t tag) {
    PELTON_CHECK(EVP_MAC_init(context, nullptr, 0, nullptr) == 1, "BLAKE2b init");
    add(&tag, 1);
  }
  void add(const void* data, size_t size) {
    PELTON_CHECK(EVP_MAC_update(context, static_cast<const unsigned char*>(data), size) == 1,
                 "BLAKE2b update");
  }
  BlockHash end() {
    BlockHash hash;
    size_t size = 0;
    PELTON_CHECK(EVP_MAC_final(context, hash.bytes.data(), &size, hash.bytes.size()) == 1 &&
                     size == hash.bytes.size(),
                 "BLAKE2b final");
    return hash;
  }
};

BlockHasher::BlockHasher(std::unique_ptr<Mac> mac) : mac_(std::move(mac)) {}
BlockHasher::~BlockHasher() = default;

StatusOr<BlockHasher::Key> BlockHasher::random_key() {
  Key key{};
  if (RAND_bytes(key.data(), static_cast<int>(key.size())) != 1) {
    return absl::UnavailableError("no random bytes for the prefix cache's key");
  }
  return key;
}

StatusOr<std::unique_ptr<BlockHasher>> BlockHasher::create(const Key& key) {
  auto mac = std::make_unique<Mac>();
  mac->algorithm = EVP_MAC_fetch(nullptr, "BLAKE2BMAC", nullptr);
  if (mac->algorithm != nullptr) mac->context = EVP_MAC_CTX_new(mac->algorithm);
  size_t out_bytes = sizeof(BlockHash::bytes);
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &out_bytes),
                               OSSL_PARAM_construct_end()};
  if (mac->context == nullptr || EVP_MAC_init(mac->context, key.data(), key.size(), params) != 1) {
    return absl::UnimplementedError("OpenSSL offers no keyed BLAKE2b");
  }
  return std::unique_ptr<BlockHasher>(new BlockHasher(std::move(mac)));
}

BlockHash BlockHasher::root(std::string_view tenant, AdapterId adapter) {
  mac_->begin(kRootTag);
  mac_->add(&adapter.value, sizeof(adapter.value));
  mac_->add(tenant.data(), tenant.size());
  return mac_->end();
}

BlockHash BlockHasher::block(const BlockHash& parent, std::span<const TokenId> tokens) {
  mac_->begin(kBlockTag);
  mac_->add(parent.bytes.data(), parent.bytes.size());
  mac_->add(tokens.data(), tokens.size_bytes());
  return mac_->end();
}

BlockId PrefixCache::find(const BlockHash& hash) const {
  const auto found = blocks_.find(hash);
  return found == blocks_.end() ? kNoBlock : found->second;
}

bool PrefixCache::insert(const BlockHash& hash, BlockId block) {
  std::optional<BlockHash>& slot = hashes_[static_cast<size_t>(block.value)];
  if (slot || !blocks_.emplace(hash, block).second) return false;
  slot = hash;
  return true;
}

std::optional<BlockHash> PrefixCache::erase(BlockId block) {
  std::optional<BlockHash> hash = std::move(hashes_[static_cast<size_t>(block.value)]);
  hashes_[static_cast<size_t>(block.value)].reset();
  if (hash) blocks_.erase(*hash);
  return hash;
}

Status PrefixCache::check_integrity() const {
  size_t hashed = 0;
  for (size_t i = 0; i < hashes_.size(); ++i) {
    if (!hashes_[i]) continue;
    ++hashed;
    if (find(*hashes_[i]) != BlockId(static_cast<int32_t>(i))) {
      return absl::InternalError(fmt::format("block {} is not found by its hash", i));
    }
  }
  if (hashed != blocks_.size()) {
    return absl::InternalError(
        fmt::format("{} hashes are indexed, {} blocks have one", blocks_.size(), hashed));
  }
  return absl::OkStatus();
}

}  // namespace pelton
