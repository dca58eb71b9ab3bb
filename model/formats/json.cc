#include "model/formats/json.h"

#include <fmt/format.h>

#include <exception>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace pelton {
namespace {

// Builds the value event by event; false ends the parse, with the reason in `error`.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    if (open_.back()->contains(name)) {
      error = absl::InvalidArgumentError(fmt::format("duplicate key \"{}\"", name));
      return false;
    }
    key_ = std::move(name);
    return counted();
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    error = absl::InvalidArgumentError(fmt::format("malformed JSON at byte {}", position));
    return false;
  }

  Json root;
  Status error;

 private:
  bool counted() {
    if (++values_ <= limits_.max_values) return true;
    error =
        absl::ResourceExhaustedError(fmt::format("more than {} JSON values", limits_.max_values));
    return false;
  }

  Json* place(Json value) {
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[key_] = std::move(value));
  }

  bool add(Json value) {
    place(std::move(value));
    return counted();
  }

  bool open(Json value) {
    if (open_.size() >= limits_.max_depth) {
      error = absl::ResourceExhaustedError(
          fmt::format("JSON is nested deeper than {}", limits_.max_depth));
      return false;
    }
    open_.push_back(place(std::move(value)));
    return counted();
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  std::vector<Json*> open_;  // parents of open ones do not move: only the innermost grows
  std::string key_;
  size_t values_ = 0;
};

StatusOr<Json> parse(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("{} bytes of JSON, at most {} are read", text.size(), limits.max_bytes));
  }
  // The library takes a NUL for the end of the text.
  if (text.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("a NUL byte within JSON");
  }
  Builder builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return builder.error.ok() ? absl::InvalidArgumentError("malformed JSON") : builder.error;
  }
  if (!builder.root.is_object()) return absl::InvalidArgumentError("not a JSON object");
  return std::move(builder.root);
}

}  // namespace

StatusOr<Json> parse_json_object(std::string_view text, std::string_view what,
                                 const JsonLimits& limits) {
  try {
    StatusOr<Json> value = parse(text, limits);
    if (!value.ok()) return annotate(value.status(), what);
    return value;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(fmt::format("{}: out of memory", what));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", what, error.what()));
  }
}

const Json* json_member(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::optional<int64_t> json_int(const Json& value) {
  if (const auto* number = value.get_ptr<const Json::number_unsigned_t*>()) {
    if (*number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(*number);
  }
  if (const auto* number = value.get_ptr<const Json::number_integer_t*>()) return *number;
  return std::nullopt;
}

std::optional<double> json_double(const Json& value) {
  if (const auto* number = value.get_ptr<const Json::number_float_t*>()) return *number;
  if (const std::optional<int64_t> number = json_int(value)) return static_cast<double>(*number);
  return std::nullopt;
}

std::optional<std::string_view> json_string(const Json& value) {
  const auto* text = value.get_ptr<const Json::string_t*>();
  if (text == nullptr) return std::nullopt;
  return std::string_view(*text);
}

}  // namespace pelton
