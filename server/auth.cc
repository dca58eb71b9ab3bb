#include "server/auth.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "core/check.h"

namespace pelton {
namespace {

constexpr std::string_view kScheme = "bearer ";
constexpr size_t kMaxHeaderBytes = 4096;

// RFC 9110, 11.1: the scheme's name is case-insensitive.
std::optional<std::string_view> bearer_key(std::string_view header) {
  if (header.size() <= kScheme.size() || header.size() > kMaxHeaderBytes) return std::nullopt;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    const char c = header[i] >= 'A' && header[i] <= 'Z' ? header[i] + ('a' - 'A') : header[i];
    if (c != kScheme[i]) return std::nullopt;
  }
  return header.substr(kScheme.size());
}

// Half of SHA-256: short enough for logs, and 2^128 keys do not collide.
std::string tenant_name(std::string_view key) {
  const std::string salted = fmt::format("pelton tenant\n{}", key);
  unsigned char digest[32];
  unsigned int size = 0;
  PELTON_CHECK(EVP_Digest(salted.data(), salted.size(), digest, &size, EVP_sha256(), nullptr) == 1,
               "SHA-256 is always there");
  std::string name;
  for (int i = 0; i < 16; ++i) name += fmt::format("{:02x}", digest[i]);
  return name;
}

Status refused(std::string_view why) {
  Status status = absl::UnauthenticatedError(std::string(why));
  set_error_reason(status, "UNAUTHENTICATED");
  return status;
}

}  // namespace

Authenticator::Authenticator(const std::vector<std::string>& api_keys) {
  PELTON_CHECK(RAND_bytes(secret_.data(), secret_.size()) == 1, "no source of randomness");
  for (const std::string& key : api_keys) {
    if (!key.empty()) keys_.push_back({digest_of(key), tenant_name(key)});
  }
}

Authenticator::Digest Authenticator::digest_of(std::string_view key) const {
  Digest digest{};
  unsigned int size = 0;
  PELTON_CHECK(HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
                    reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data(),
                    &size) != nullptr,
               "HMAC-SHA-256 is always there");
  return digest;
}

StatusOr<std::string> Authenticator::tenant(
    std::optional<std::string_view> authorization_header) const {
  if (!required()) return std::string();
  if (!authorization_header) return refused("an API key is required: authorization: Bearer KEY");
  const auto given = bearer_key(*authorization_header);
  if (!given) return refused("the authorization header must be: Bearer KEY");

  const Digest digest = digest_of(*given);
  const Key* match = nullptr;
  for (const Key& key : keys_) {  // all of them: no early exit
    if (CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0) match = &key;
  }
  if (match == nullptr) return refused("the API key is not valid");
  return match->tenant;
}

}  // namespace pelton
