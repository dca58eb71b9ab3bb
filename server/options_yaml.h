// Reads the settings file: one flat YAML mapping of scalars, or lists of scalars.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/status.h"

namespace pelton {

// Key and value as written; a list comes comma-separated. At most 1 MiB; an error names file and
// line.
StatusOr<std::vector<std::pair<std::string, std::string>>> read_flat_yaml(const std::string& path);

}  // namespace pelton
