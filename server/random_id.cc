#include "server/random_id.h"

#include <openssl/rand.h>

#include <algorithm>

#include "core/check.h"

namespace pelton {

std::string random_id(std::string_view prefix) {
  constexpr char kHex[] = "0123456789abcdef";
  unsigned char bytes[16];
  PELTON_CHECK(RAND_bytes(bytes, sizeof(bytes)) == 1, "no source of randomness");
  std::string id(prefix);
  id.reserve(prefix.size() + 2 * sizeof(bytes));
  for (const unsigned char byte : bytes) {
    id += kHex[byte >> 4];
    id += kHex[byte & 15];
  }
  return id;
}

uint64_t random_seed() {
  uint64_t seed = 0;
  PELTON_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&seed), sizeof(seed)) == 1,
               "no source of randomness");
  return seed;
}

std::string request_name(std::string_view asked_for) {
  constexpr size_t kMaxBytes = 128;
  const auto harmless = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-_.:/+=").find(c) != std::string_view::npos;
  };
  const bool usable = !asked_for.empty() && asked_for.size() <= kMaxBytes &&
                      std::all_of(asked_for.begin(), asked_for.end(), harmless);
  return usable ? std::string(asked_for) : random_id("req-");
}

}  // namespace pelton
