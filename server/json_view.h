// Reads JSON without building a tree: check_json() validates the whole text once, then JsonView
// walks the same bytes, so numbers keep their digits and schemas their key order, and a hostile
// body costs no more memory than its own length. A view points into the text, which must outlive
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/status.h"

namespace pelton {

// INVALID_ARGUMENT where `text` is not one JSON value (RFC 8259) in valid UTF-8, or nests deeper.
Status check_json(std::string_view text, int max_depth);

class JsonView {
 public:
  enum class Kind : uint8_t { kAbsent, kNull, kBool, kNumber, kString, kArray, kObject };

  JsonView() = default;
  // `checked` has passed check_json.
  static JsonView root(std::string_view checked);

  Kind kind() const;
  bool present() const { return kind() > Kind::kNull; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_array() const { return kind() == Kind::kArray; }
  bool is_object() const { return kind() == Kind::kObject; }
  std::string_view raw() const { return raw_; }  // the value as it was sent

  // nullopt where the value is of another kind.
  std::optional<bool> boolean() const;
  std::optional<std::string> string() const;
  // 16.0 and 1e3 are integers too, as in vLLM; out of range is nullopt.
  std::optional<int64_t> integer() const;
  std::optional<uint64_t> unsigned_integer() const;
  std::optional<double> number() const;  // infinite where the digits overflow

  // The last member of that name, as every common JSON reader has it; absent if there is none.
  JsonView operator[](std::string_view name) const;
  // Calls f(name, value) for each member of an object; f returns false to stop.
  template <typename F>
  void for_each_member(F f) const;
  // Calls f(value) for each element of an array; f returns false to stop.
  template <typename F>
  void for_each_element(F f) const;

 private:
  explicit JsonView(std::string_view raw) : raw_(raw) {}
  // One step through a container's text; `at` starts at 0.
  bool next(size_t& at, JsonView& value) const;
  static std::string unescape(std::string_view quoted);

  std::string_view raw_;
};

template <typename F>
void JsonView::for_each_member(F f) const {
  if (!is_object()) return;
  size_t at = 0;
  JsonView name;
  JsonView value;
  while (next(at, name) && next(at, value)) {
    const std::string_view quoted = name.raw_.substr(1, name.raw_.size() - 2);
    const bool plain = quoted.find('\\') == std::string_view::npos;
    if (!(plain ? f(quoted, value) : f(std::string_view(unescape(quoted)), value))) return;
  }
}

template <typename F>
void JsonView::for_each_element(F f) const {
  if (!is_array()) return;
  size_t at = 0;
  JsonView value;
  while (next(at, value)) {
    if (!f(value)) return;
  }
}

}  // namespace pelton
