// JSON text to a value, with every dimension of the input bounded and duplicate keys refused.
// Pure; no exception leaves it.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <string_view>

#include "core/status.h"

namespace pelton {

struct JsonLimits {
  size_t max_bytes = size_t{4} << 20;
  size_t max_depth = 32;                // of arrays and objects
  size_t max_values = size_t{1} << 18;  // numbers, strings, keys, containers: all of them
};

// INVALID_ARGUMENT with "what: reason at byte N", RESOURCE_EXHAUSTED beyond a limit.
StatusOr<boost::json::value> parse_json(std::string_view text, std::string_view what,
                                        const JsonLimits& limits);

// The same, where the whole must be an object.
StatusOr<boost::json::object> parse_json_object(std::string_view text, std::string_view what,
                                                const JsonLimits& limits);

}  // namespace pelton
