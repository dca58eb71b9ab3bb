// What must not be guessed: request ids, and seeds where a request names none. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pelton {

// `prefix` ("cmpl-", "chatcmpl-") and 128 random bits in hex.
std::string random_id(std::string_view prefix);
uint64_t random_seed();
// What a request is called towards its client: as it asked (x-request-id), where that is short and
// of harmless characters, else a name of ours.
std::string request_name(std::string_view asked_for);

}  // namespace pelton
