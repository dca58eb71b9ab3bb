// JSON as text, where the order of keys and the digits of numbers must survive: no document tree.
// Pure functions.
#pragma once

#include <string_view>

#include "core/status.h"

namespace pelton {

// INVALID_ARGUMENT naming `field` unless `text` is one JSON object, at most 64 levels deep.
Status check_json_object(std::string_view field, std::string_view text);

}  // namespace pelton
