#include "model/formats/json.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/src.hpp>  // Boost.JSON is compiled here, in this one file
#include <exception>
#include <new>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace pelton {
namespace {

namespace json = boost::json;
using json::error_code;

// Builds the value as it is parsed. Boost's own parser keeps the last of two equal keys: two
// readers of one file could then see different models.
class Handler {
 public:
  static constexpr size_t max_object_size = SIZE_MAX;
  static constexpr size_t max_array_size = SIZE_MAX;
  static constexpr size_t max_key_size = SIZE_MAX;
  static constexpr size_t max_string_size = SIZE_MAX;

  explicit Handler(size_t max_values) : values_left_(max_values) {}

  bool on_document_begin(error_code&) {
    stack_.reset();
    return true;
  }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    keys_.emplace_back();
    return true;
  }
  bool on_object_end(size_t count, error_code& ec) {
    keys_.pop_back();
    stack_.push_object(count);
    return counted(ec);
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(size_t count, error_code& ec) {
    stack_.push_array(count);
    return counted(ec);
  }
  bool on_key_part(json::string_view part, size_t, error_code&) {
    key_.append(part.data(), part.size());
    stack_.push_chars(part);
    return true;
  }
  bool on_key(json::string_view part, size_t, error_code& ec) {
    key_.append(part.data(), part.size());
    stack_.push_key(part);
    if (!keys_.back().insert(key_).second) {
      duplicate = std::move(key_);
      ec = json::error::syntax;
      return false;
    }
    key_.clear();
    return counted(ec);
  }
  bool on_string_part(json::string_view part, size_t, error_code&) {
    stack_.push_chars(part);
    return true;
  }
  bool on_string(json::string_view part, size_t, error_code& ec) {
    stack_.push_string(part);
    return counted(ec);
  }
  bool on_number_part(json::string_view, error_code&) { return true; }
  bool on_int64(int64_t value, json::string_view, error_code& ec) {
    stack_.push_int64(value);
    return counted(ec);
  }
  bool on_uint64(uint64_t value, json::string_view, error_code& ec) {
    stack_.push_uint64(value);
    return counted(ec);
  }
  bool on_double(double value, json::string_view, error_code& ec) {
    stack_.push_double(value);
    return counted(ec);
  }
  bool on_bool(bool value, error_code& ec) {
    stack_.push_bool(value);
    return counted(ec);
  }
  bool on_null(error_code& ec) {
    stack_.push_null();
    return counted(ec);
  }
  bool on_comment_part(json::string_view, error_code&) { return true; }
  bool on_comment(json::string_view, error_code&) { return true; }

  json::value release() { return stack_.release(); }

  std::string duplicate;  // the key that came twice
  bool too_many = false;

 private:
  bool counted(error_code& ec) {
    if (values_left_-- > 0) return true;
    values_left_ = 0;
    too_many = true;
    ec = json::error::syntax;
    return false;
  }

  json::value_stack stack_;
  std::string key_;
  std::vector<std::unordered_set<std::string>> keys_;  // of each open object
  size_t values_left_;
};

StatusOr<json::value> parse(std::string_view text, std::string_view what,
                            const JsonLimits& limits) {
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::basic_parser<Handler> parser(options, limits.max_values);
  error_code ec;
  const size_t consumed = parser.write_some(false, text.data(), text.size(), ec);
  if (parser.handler().too_many) {
    return absl::ResourceExhaustedError(
        fmt::format("{}: more than {} JSON values", what, limits.max_values));
  }
  if (!parser.handler().duplicate.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: duplicate key \"{}\"", what, parser.handler().duplicate));
  }
  if (!ec && consumed < text.size()) ec = json::error::extra_data;
  if (ec) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} at byte {}", what, ec.message(), consumed));
  }
  return parser.handler().release();
}

}  // namespace

StatusOr<json::value> parse_json(std::string_view text, std::string_view what,
                                 const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::ResourceExhaustedError(fmt::format("{}: {} bytes of JSON, at most {} are read",
                                                    what, text.size(), limits.max_bytes));
  }
  try {
    return parse(text, what, limits);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(fmt::format("{}: out of memory", what));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(fmt::format("{}: {}", what, error.what()));
  }
}

StatusOr<json::object> parse_json_object(std::string_view text, std::string_view what,
                                         const JsonLimits& limits) {
  PELTON_ASSIGN_OR_RETURN(json::value value, parse_json(text, what, limits));
  if (!value.is_object()) {
    return absl::InvalidArgumentError(fmt::format("{}: not a JSON object", what));
  }
  return std::move(value.get_object());
}

}  // namespace pelton
