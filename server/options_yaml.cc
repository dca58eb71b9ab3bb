#include "server/options_yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <fstream>
#include <set>
#include <sstream>

namespace pelton {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

StatusOr<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(fmt::format("{}: cannot be read", path));
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(fmt::format("{}: larger than 1 MiB", path));
  }
  return text;
}

Status at_line(const std::string& path, const YAML::Mark& mark, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}:{}: {}", path, mark.line + 1, what));
}

StatusOr<std::string> value_text(const std::string& path, const YAML::Node& value) {
  if (value.IsNull()) return std::string();
  if (value.IsScalar()) return value.Scalar();
  if (!value.IsSequence()) return at_line(path, value.Mark(), "expected a value or a list");
  std::string joined;
  for (const YAML::Node& item : value) {
    if (!item.IsScalar()) return at_line(path, item.Mark(), "expected a list of plain values");
    if (!joined.empty()) joined += ',';
    joined += item.Scalar();
  }
  return joined;
}

}  // namespace

StatusOr<std::vector<std::pair<std::string, std::string>>> read_flat_yaml(const std::string& path) {
  PELTON_ASSIGN_OR_RETURN(const std::string text, read_text(path));
  std::vector<std::pair<std::string, std::string>> out;
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return out;
    if (!root.IsMap()) return at_line(path, root.Mark(), "expected 'key: value' lines");
    std::set<std::string> seen;
    for (const auto& pair : root) {
      if (!pair.first.IsScalar()) return at_line(path, pair.first.Mark(), "expected a plain key");
      const std::string& key = pair.first.Scalar();
      if (!seen.insert(key).second) {
        return at_line(path, pair.first.Mark(), fmt::format("'{}' stands twice", key));
      }
      PELTON_ASSIGN_OR_RETURN(std::string value, value_text(path, pair.second));
      out.emplace_back(key, std::move(value));
    }
  } catch (const YAML::Exception& error) {
    return at_line(path, error.mark, error.msg);
  }
  return out;
}

}  // namespace pelton
