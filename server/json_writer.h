// Appends JSON to a buffer that the caller reuses; no tree is built. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pelton {

// Quoted and escaped. `text` is valid UTF-8 (to_valid_utf8 makes it so).
void append_json_string(std::string& out, std::string_view text);
void append_json_int(std::string& out, int64_t value);
// The shortest digits that read back as the same float; what JSON cannot say (-inf of a token that
// was masked) becomes -9999, as in vLLM.
void append_json_logprob(std::string& out, float value);

}  // namespace pelton
