#include "model/config_fields.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace pelton {

// --- bounds ---

Status ConfigFields::invalid(std::string_view key, std::string_view why) const {
  return invalid_field(full_name(key), why);
}

Status ConfigFields::unsupported(std::string_view key, std::string_view why) const {
  return unsupported_field(full_name(key), why);
}

Status ConfigFields::read_int(std::string_view key, int64_t low, int64_t high, int& out) const {
  PELTON_ASSIGN_OR_RETURN(const std::optional<int64_t> value, get_int(key));
  if (!value) return absl::OkStatus();
  if (*value < low || *value > high) {
    return invalid(key, fmt::format("{} is not within {} .. {}", *value, low, high));
  }
  out = static_cast<int>(*value);
  return absl::OkStatus();
}

Status ConfigFields::read_double(std::string_view key, double low, double high, double& out) const {
  PELTON_ASSIGN_OR_RETURN(const std::optional<double> value, get_double(key));
  if (!value) return absl::OkStatus();
  if (!(*value >= low && *value <= high)) {  // NaN too
    return invalid(key, fmt::format("{} is not within {} .. {}", *value, low, high));
  }
  out = *value;
  return absl::OkStatus();
}

Status ConfigFields::read_float(std::string_view key, double low, double high, float& out) const {
  double value = out;
  PELTON_RETURN_IF_ERROR(read_double(key, low, high, value));
  out = static_cast<float>(value);
  return absl::OkStatus();
}

Status ConfigFields::read_bool(std::string_view key, bool& out) const {
  PELTON_ASSIGN_OR_RETURN(const std::optional<bool> value, get_bool(key));
  if (value) out = *value;
  return absl::OkStatus();
}

Status ConfigFields::need_int(std::string_view key, int64_t low, int64_t high, int& out,
                              int fallback) const {
  out = 0;
  PELTON_ASSIGN_OR_RETURN(const std::optional<int64_t> value, get_int(key));
  if (!value && fallback > 0) out = fallback;
  if (!value) return fallback > 0 ? absl::OkStatus() : invalid(key, "missing");
  return read_int(key, low, high, out);
}

Status ConfigFields::need_double(std::string_view key, double low, double high, double& out,
                                 double fallback) const {
  out = 0;
  PELTON_ASSIGN_OR_RETURN(const std::optional<double> value, get_double(key));
  if (!value && fallback > 0) out = fallback;
  if (!value) return fallback > 0 ? absl::OkStatus() : invalid(key, "missing");
  return read_double(key, low, high, out);
}

// --- JSON ---

std::string JsonFields::full_name(std::string_view key) const {
  return fmt::format("{}{}", path_, key);
}

const Json* JsonFields::find(std::string_view key) const {
  const Json* value = json_member(object_, key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

StatusOr<std::optional<int64_t>> JsonFields::get_int(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<int64_t>();
  const std::optional<int64_t> number = json_int(*value);
  if (!number) return invalid(key, "not an integer of 64 bits");
  return number;
}

StatusOr<std::optional<double>> JsonFields::get_double(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<double>();
  const std::optional<double> number = json_double(*value);
  if (!number) return invalid(key, "not a number");
  return number;
}

StatusOr<std::optional<bool>> JsonFields::get_bool(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) return invalid(key, "neither true nor false");
  return std::optional<bool>(value->get<bool>());
}

StatusOr<std::optional<std::string>> JsonFields::get_string(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<std::string>();
  const std::optional<std::string_view> text = json_string(*value);
  if (!text) return invalid(key, "not a string");
  return std::optional<std::string>(*text);
}

StatusOr<const Json*> JsonFields::get_object(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_object()) return invalid(key, "not an object");
  return value;
}

StatusOr<const Json*> JsonFields::get_array(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_array()) return invalid(key, "not an array");
  return value;
}

// --- GGUF ---

std::string GgufFields::full_name(std::string_view key) const {
  return fmt::format("{}{}", prefix_, key);
}

StatusOr<std::optional<int64_t>> GgufFields::get_int(std::string_view key) const {
  const GgufValue* value = file_.find(full_name(key));
  if (value == nullptr || value->type != GgufType::kArray) return file_.get_int(full_name(key));
  const std::optional<int64_t> first = value->as_int(0);
  if (!first) return invalid(key, "not an integer");
  for (uint64_t i = 1; i < value->count; ++i) {
    if (value->as_int(i) != first) return unsupported(key, "it differs from layer to layer");
  }
  return first;
}

StatusOr<std::optional<double>> GgufFields::get_double(std::string_view key) const {
  return file_.get_double(full_name(key));
}

StatusOr<std::optional<bool>> GgufFields::get_bool(std::string_view key) const {
  return file_.get_bool(full_name(key));
}

StatusOr<std::optional<std::string>> GgufFields::get_string(std::string_view key) const {
  PELTON_ASSIGN_OR_RETURN(const auto text, file_.get_string(full_name(key)));
  return text ? std::optional<std::string>(*text) : std::nullopt;
}

}  // namespace pelton
