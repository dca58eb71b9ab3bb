// JSON text to a value, with every dimension of the input bounded and duplicate keys refused: two
// readers of one file must not see different models. Pure; no exception leaves it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>

#include "core/status.h"

namespace pelton {

using Json = nlohmann::json;

struct JsonLimits {
  size_t max_bytes = size_t{4} << 20;
  size_t max_depth = 32;                // of arrays and objects
  size_t max_values = size_t{1} << 18;  // numbers, strings, keys, containers: all of them
};

// The value of the whole text, an object. INVALID_ARGUMENT with "what: reason", RESOURCE_EXHAUSTED
// beyond a limit.
StatusOr<Json> parse_json_object(std::string_view text, std::string_view what,
                                 const JsonLimits& limits);

// Reads that neither throw nor convert: null or nullopt where `value` is of another kind.
const Json* json_member(const Json& object, std::string_view key);
std::optional<int64_t> json_int(const Json& value);
std::optional<double> json_double(const Json& value);  // integers too
std::optional<std::string_view> json_string(const Json& value);

}  // namespace pelton
