// Who is calling: checks the key that both front ends read from `authorization: Bearer KEY` and
// names the tenant behind it. Immutable once made, safe from any thread.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace pelton {

class Authenticator {
 public:
  // No keys: everybody may call, as one tenant without a name. Empty keys are left out.
  explicit Authenticator(const std::vector<std::string>& api_keys);

  bool required() const { return !keys_.empty(); }

  // The caller's tenant: a stable hash of its key (never the key), "" where no key is required.
  // UNAUTHENTICATED where the header is absent, malformed or names no key. The time taken tells
  // nothing about how much of a key was right.
  StatusOr<std::string> tenant(std::optional<std::string_view> authorization_header) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Key {
    Digest digest;  // keyed with secret_, so that a comparison works on equal lengths
    std::string tenant;
  };
  Digest digest_of(std::string_view key) const;

  Digest secret_{};  // random, of this process
  std::vector<Key> keys_;
};

}  // namespace pelton
