// Says what is wrong with a request, by the path of the field ("messages[2].content[0].text"). One
// FieldCheck a message; children share the findings. Paths are put together only for an error.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "core/status.h"

namespace pelton {

// An interval of real numbers; NaN and infinities are in none.
struct RealRange {
  double low = 0;
  double high = 0;
  bool low_is_open = false;

  bool contains(double value) const {
    return std::isfinite(value) && value <= high && (low_is_open ? value > low : value >= low);
  }
  std::string text() const {
    return fmt::format("must be in {}{}, {}]", low_is_open ? "(" : "[", low, high);
  }
};

inline constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();

class FieldCheck {
 public:
  // The first thing found of each kind.
  struct Findings {
    Status invalid;
    Status unbuilt;
    // What is invalid comes before what is only not built yet.
    Status status() const { return invalid.ok() ? unbuilt : invalid; }
  };

  explicit FieldCheck(Findings* findings) : findings_(findings) {}
  // The message in field `name` (element `index` of it, where repeated). `this` outlives it.
  FieldCheck in(std::string_view name, int index = -1) const {
    return FieldCheck(findings_, this, name, index);
  }

  void require(std::string_view field, bool holds, std::string_view why) const {
    if (!holds) invalid(field, why);
  }
  void integer(std::string_view field, int64_t value, int64_t low, int64_t high) const {
    if (value < low || value > high) invalid(field, fmt::format("must be in [{}, {}]", low, high));
  }
  void real(std::string_view field, double value, const RealRange& range) const {
    if (!range.contains(value)) invalid(field, range.text());
  }
  void count(std::string_view field, int64_t count, int64_t max) const {
    if (count > max)
      invalid(field, fmt::format("has {} entries, at most {} are allowed", count, max));
  }
  void bytes(std::string_view field, std::string_view value, size_t max) const {
    if (value.size() > max) {
      invalid(field, fmt::format("is {} bytes long, at most {} are allowed", value.size(), max));
    }
  }
  // Each id within the vocabulary, at most `max` of them.
  template <typename Ids>
  void token_ids(std::string_view field, const Ids& ids, int64_t max, int vocab_size) const {
    count(field, ids.size(), max);
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size) {
        invalid(field, fmt::format("{} is not a token id of this model, [0, {})", id, vocab_size));
        return;
      }
    }
  }
  // Declared in the API and valid; `set`: to something that is not neutral.
  void unbuilt(std::string_view field, bool set, std::string_view why = "not built yet") const {
    if (set && findings_->unbuilt.ok()) {
      findings_->unbuilt = unsupported_field(path(field), why);
    }
  }
  void invalid(std::string_view field, std::string_view why) const {
    if (findings_->invalid.ok()) findings_->invalid = invalid_field(path(field), why);
  }
  // An error with a reason of its own.
  void refuse(Status status) const {
    if (findings_->invalid.ok()) findings_->invalid = std::move(status);
  }
  bool ok() const { return findings_->invalid.ok(); }

  // `field` empty: this message itself.
  std::string path(std::string_view field) const {
    std::string out = parent_ == nullptr ? std::string() : parent_->path("");
    if (!name_.empty()) out += fmt::format("{}{}", out.empty() ? "" : ".", name_);
    if (index_ >= 0) out += fmt::format("[{}]", index_);
    if (!field.empty()) out += fmt::format("{}{}", out.empty() ? "" : ".", field);
    return out;
  }

 private:
  FieldCheck(Findings* findings, const FieldCheck* parent, std::string_view name, int index)
      : findings_(findings), parent_(parent), name_(name), index_(index) {}

  Findings* findings_;
  const FieldCheck* parent_ = nullptr;
  std::string_view name_;
  int index_ = -1;
};

}  // namespace pelton
