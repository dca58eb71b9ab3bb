#include "core/config_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace pelton {
namespace {

std::string replaced(std::string_view text, char from, char to) {
  std::string out(text);
  std::replace(out.begin(), out.end(), from, to);
  return out;
}

Status invalid_value(const ConfigEntry& entry, std::string_view text, std::string_view expected) {
  return absl::InvalidArgumentError(
      fmt::format("--{}: '{}' is not valid: expected {}", entry.name, text, expected));
}

std::string bounds_text(const ConfigEntry& entry) {
  return fmt::format("between {:.12g} and {:.12g}", entry.min, entry.max);
}

std::optional<int64_t> parse_int(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_bytes(std::string_view text) {
  struct Unit {
    std::string_view suffix;
    int64_t factor;
  };
  static constexpr Unit kUnits[] = {
      {"KiB", int64_t{1} << 10},
      {"MiB", int64_t{1} << 20},
      {"GiB", int64_t{1} << 30},
      {"TiB", int64_t{1} << 40},
      {"kB", 1000},
      {"MB", 1000000},
      {"GB", 1000000000},
      {"TB", 1000000000000},
      {"B", 1},
  };
  int64_t factor = 1;
  for (const Unit& unit : kUnits) {
    if (text.size() > unit.suffix.size() && text.ends_with(unit.suffix)) {
      factor = unit.factor;
      text.remove_suffix(unit.suffix.size());
      break;
    }
  }
  const auto count = parse_int(text);
  if (!count || *count < 0 || *count > INT64_MAX / factor) return std::nullopt;
  return *count * factor;
}

bool contains_choice(std::string_view choices, std::string_view text) {
  while (!choices.empty()) {
    const size_t bar = choices.find('|');
    if (choices.substr(0, bar) == text) return true;
    if (bar == choices.npos) break;
    choices.remove_prefix(bar + 1);
  }
  return false;
}

// Levenshtein distance, two rows.
int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string config_env_name(std::string_view name) {
  std::string out = "PELTON_" + replaced(name, '-', '_');
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return out;
}

std::string config_yaml_key(std::string_view name) {
  return replaced(name, '-', '_');
}

StatusOr<ConfigValue> parse_config_value(const ConfigEntry& entry, std::string_view text) {
  switch (entry.type) {
    case ConfigType::kBool: {
      const std::string word = absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
      if (word == "true" || word == "1" || word == "yes" || word == "on") return ConfigValue(true);
      if (word == "false" || word == "0" || word == "no" || word == "off") {
        return ConfigValue(false);
      }
      return invalid_value(entry, text, "true or false");
    }
    case ConfigType::kInt:
    case ConfigType::kBytes: {
      const bool bytes = entry.type == ConfigType::kBytes;
      const auto value = bytes ? parse_bytes(text) : parse_int(text);
      if (!value) return invalid_value(entry, text, bytes ? "a size such as 4GiB" : "an integer");
      const auto number = static_cast<double>(*value);
      if (number < entry.min || number > entry.max) {
        return invalid_value(entry, text, bounds_text(entry));
      }
      return ConfigValue(*value);
    }
    case ConfigType::kFloat: {
      double value = 0;
      if (!absl::SimpleAtod(absl::string_view(text.data(), text.size()), &value) ||
          !std::isfinite(value)) {
        return invalid_value(entry, text, "a number");
      }
      if (value < entry.min || value > entry.max) {
        return invalid_value(entry, text, bounds_text(entry));
      }
      return ConfigValue(value);
    }
    case ConfigType::kChoice:
      if (!contains_choice(entry.choices, text)) {
        return invalid_value(entry, text, fmt::format("one of {}", entry.choices));
      }
      return ConfigValue(std::string(text));
    case ConfigType::kString:
    case ConfigType::kList:
      if (text.size() > 65536) return invalid_value(entry, "(long text)", "at most 64 KiB");
      return ConfigValue(std::string(text));
  }
  return absl::InternalError("unknown config type");
}

const ConfigEntry* find_config_entry(std::span<const ConfigEntry> table, std::string_view name) {
  const std::string wanted = replaced(name, '_', '-');
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const ConfigEntry& entry) { return entry.name == wanted; });
  return found == table.end() ? nullptr : &*found;
}

std::optional<std::string_view> nearest_config_name(std::span<const ConfigEntry> table,
                                                    std::string_view name) {
  const std::string wanted = replaced(name.substr(0, 64), '_', '-');
  std::optional<std::string_view> best;
  int best_distance = static_cast<int>(wanted.size()) / 2 + 1;  // further off is no typing error
  for (const ConfigEntry& entry : table) {
    const int distance = edit_distance(wanted, entry.name);
    if (distance < best_distance) {
      best_distance = distance;
      best = entry.name;
    }
  }
  return best;
}

std::string config_table_markdown(std::span<const ConfigEntry> table) {
  std::string out;
  std::string_view section;
  for (const ConfigEntry& entry : table) {
    if (entry.section != section) {
      section = entry.section;
      out += fmt::format("\n## {}\n\n| flag | YAML key | environment | default | meaning |\n",
                         section);
      out += "|---|---|---|---|---|\n";
    }
    std::string help(entry.help);
    if (!entry.choices.empty()) help += fmt::format(" One of {}.", entry.choices);
    // A bar ends a Markdown cell, inside code too.
    size_t at = 0;
    while ((at = help.find('|', at)) != help.npos) {
      help.replace(at, 1, "\\|");
      at += 2;
    }
    out += fmt::format(
        "| `--{}` | `{}` | `{}` | {} | {} |\n", entry.name, config_yaml_key(entry.name),
        config_env_name(entry.name),
        entry.default_value.empty() ? std::string("-") : fmt::format("`{}`", entry.default_value),
        help);
  }
  return out;
}

}  // namespace pelton
