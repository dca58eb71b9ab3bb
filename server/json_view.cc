#include "server/json_view.h"

#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/utf8.h"

namespace pelton {
namespace {

// Accepts everything: the parser itself checks syntax, UTF-8 and depth.
struct AcceptAll {
  static constexpr size_t max_object_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_array_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_key_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_string_size = std::numeric_limits<size_t>::max();
  using Error = boost::system::error_code;
  using Text = boost::json::string_view;
  bool on_document_begin(Error&) { return true; }
  bool on_document_end(Error&) { return true; }
  bool on_object_begin(Error&) { return true; }
  bool on_object_end(size_t, Error&) { return true; }
  bool on_array_begin(Error&) { return true; }
  bool on_array_end(size_t, Error&) { return true; }
  bool on_key_part(Text, size_t, Error&) { return true; }
  bool on_key(Text, size_t, Error&) { return true; }
  bool on_string_part(Text, size_t, Error&) { return true; }
  bool on_string(Text, size_t, Error&) { return true; }
  bool on_number_part(Text, Error&) { return true; }
  bool on_int64(int64_t, Text, Error&) { return true; }
  bool on_uint64(uint64_t, Text, Error&) { return true; }
  bool on_double(double, Text, Error&) { return true; }
  bool on_bool(bool, Error&) { return true; }
  bool on_null(Error&) { return true; }
  bool on_comment_part(Text, Error&) { return true; }
  bool on_comment(Text, Error&) { return true; }
};

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
bool ends_scalar(char c) {
  return is_space(c) || c == ',' || c == ']' || c == '}' || c == ':';
}

// Index behind the string whose opening quote stands at `at`.
size_t skip_string(std::string_view text, size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return text.size();
}

// Index behind the value that starts at `at`, in text that check_json has passed.
size_t skip_value(std::string_view text, size_t at) {
  if (text[at] == '"') return skip_string(text, at);
  if (text[at] != '{' && text[at] != '[') {
    while (at < text.size() && !ends_scalar(text[at])) ++at;
    return at;
  }
  int depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = skip_string(text, at);
      continue;
    }
    ++at;
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0) break;
  }
  return at;
}

uint32_t hex4(std::string_view text, size_t at) {
  uint32_t value = 0;
  if (at + 4 <= text.size()) std::from_chars(&text[at], &text[at] + 4, value, 16);
  return value;
}

}  // namespace

Status check_json(std::string_view text, int max_depth) {
  boost::json::parse_options options;
  options.max_depth = static_cast<size_t>(max_depth);
  boost::json::basic_parser<AcceptAll> parser(options);
  boost::system::error_code error;
  const size_t read = parser.write_some(false, text.data(), text.size(), error);
  if (!error && read < text.size()) error = boost::json::error::extra_data;
  if (!error) return absl::OkStatus();
  if (error == boost::json::error::too_deep) {
    return absl::InvalidArgumentError("the body nests more than " + std::to_string(max_depth) +
                                      " levels deep");
  }
  return absl::InvalidArgumentError("the body is not valid JSON: " + error.message() + " at byte " +
                                    std::to_string(read));
}

JsonView JsonView::root(std::string_view checked) {
  while (!checked.empty() && is_space(checked.front())) checked.remove_prefix(1);
  while (!checked.empty() && is_space(checked.back())) checked.remove_suffix(1);
  return JsonView(checked);
}

JsonView::Kind JsonView::kind() const {
  if (raw_.empty()) return Kind::kAbsent;
  switch (raw_.front()) {
    case 'n':
      return Kind::kNull;
    case 't':
    case 'f':
      return Kind::kBool;
    case '"':
      return Kind::kString;
    case '[':
      return Kind::kArray;
    case '{':
      return Kind::kObject;
    default:
      return Kind::kNumber;
  }
}

std::optional<bool> JsonView::boolean() const {
  if (kind() != Kind::kBool) return std::nullopt;
  return raw_.front() == 't';
}

std::optional<std::string> JsonView::string() const {
  if (!is_string()) return std::nullopt;
  return unescape(raw_.substr(1, raw_.size() - 2));
}

std::optional<int64_t> JsonView::integer() const {
  if (kind() != Kind::kNumber) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(raw_.data(), raw_.data() + raw_.size(), value);
  if (error == std::errc() && end == raw_.data() + raw_.size()) return value;
  const double real = *number();
  if (std::abs(real) > 9007199254740992.0 || real != std::floor(real)) return std::nullopt;
  return static_cast<int64_t>(real);
}

std::optional<uint64_t> JsonView::unsigned_integer() const {
  if (kind() != Kind::kNumber) return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(raw_.data(), raw_.data() + raw_.size(), value);
  if (error == std::errc() && end == raw_.data() + raw_.size()) return value;
  const std::optional<int64_t> whole = integer();
  if (!whole || *whole < 0) return std::nullopt;
  return static_cast<uint64_t>(*whole);
}

std::optional<double> JsonView::number() const {
  if (kind() != Kind::kNumber) return std::nullopt;
  double value = 0;
  const auto result = std::from_chars(raw_.data(), raw_.data() + raw_.size(), value);
  // from_chars leaves the value alone where it over- or underflows; strtod says which it was.
  if (result.ec == std::errc::result_out_of_range) {
    value = std::strtod(std::string(raw_).c_str(), nullptr);
  }
  return value;
}

JsonView JsonView::operator[](std::string_view name) const {
  JsonView found;
  for_each_member([&](std::string_view key, JsonView value) {
    if (key == name) found = value;
    return true;
  });
  return found;
}

bool JsonView::next(size_t& at, JsonView& value) const {
  if (at == 0) at = 1;  // behind the opening bracket
  while (at < raw_.size() && (is_space(raw_[at]) || raw_[at] == ',' || raw_[at] == ':')) ++at;
  if (at + 1 >= raw_.size()) return false;  // at the closing bracket
  const size_t end = skip_value(raw_, at);
  value = JsonView(raw_.substr(at, end - at));
  at = end;
  return true;
}

std::string JsonView::unescape(std::string_view quoted) {
  std::string out;
  out.reserve(quoted.size());
  for (size_t i = 0; i < quoted.size(); ++i) {
    if (quoted[i] != '\\') {
      const size_t run = std::min(quoted.find('\\', i), quoted.size());
      out.append(quoted.substr(i, run - i));
      i = run - 1;
      continue;
    }
    if (++i == quoted.size()) break;
    switch (quoted[i]) {
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'u': {
        uint32_t code = hex4(quoted, i + 1);
        i += 4;
        if (code >= 0xD800 && code < 0xDC00) {  // the check has seen that its pair follows
          code = 0x10000 + ((code - 0xD800) << 10) + (hex4(quoted, i + 3) - 0xDC00);
          i += 6;
        }
        append_utf8(out, code);
        break;
      }
      default:
        out += quoted[i];  // quote, backslash, slash
    }
  }
  return out;
}

}  // namespace pelton
