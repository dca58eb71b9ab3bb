#include "server/random_id.h"

#include <openssl/rand.h>

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

}  // namespace pelton
