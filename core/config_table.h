// One immutable table of settings from which flags, YAML keys, environment names, --help and the
// docs page are made. The table says what a setting is; server/options.* reads the sources. Values.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "core/status.h"

namespace pelton {

enum class ConfigType : uint8_t { kBool, kInt, kFloat, kBytes, kString, kChoice, kList };

// A setting's value; kBytes is an int64 ("4GiB", "512MiB", plain bytes), kList is comma-separated
// text.
using ConfigValue = std::variant<bool, int64_t, double, std::string>;

struct ConfigEntry {
  std::string_view name;  // "max-model-len": the flag, and with _ the YAML key
  ConfigType type;
  std::string_view default_value;  // as a user would write it; empty: absent
  std::string_view section;        // heading in --help and the docs page
  std::string_view help;           // one sentence
  double min = 0;                  // bounds of kInt, kFloat, kBytes, both ends allowed
  double max = 0;
  std::string_view choices = {};  // of kChoice: "auto|cpu|cuda"
};

// "max-model-len" -> "PELTON_MAX_MODEL_LEN", "max_model_len"
std::string config_env_name(std::string_view name);
std::string config_yaml_key(std::string_view name);

// Parses and bounds a value; the error names the setting and what it accepts.
StatusOr<ConfigValue> parse_config_value(const ConfigEntry& entry, std::string_view text);

// The entry of that name (dashes and underscores are the same), or null.
const ConfigEntry* find_config_entry(std::span<const ConfigEntry> table, std::string_view name);
// The name in the table that is nearest by edit distance, for "did you mean"; nullopt when none is
// near.
std::optional<std::string_view> nearest_config_name(std::span<const ConfigEntry> table,
                                                    std::string_view name);

// The docs page: one Markdown table a section.
std::string config_table_markdown(std::span<const ConfigEntry> table);

}  // namespace pelton
