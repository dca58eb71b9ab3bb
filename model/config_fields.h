// Reading config fields from either format with one set of bounds: a field is absent, or within
// [low, high], or a typed error that names it. Used while a model is opened.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/status.h"
#include "model/formats/gguf.h"
#include "model/formats/json.h"

namespace pelton {

class ConfigFields {
 public:
  virtual ~ConfigFields() = default;

  // nullopt: absent (or null). The error of a value of another kind names the field.
  virtual StatusOr<std::optional<int64_t>> get_int(std::string_view key) const = 0;
  virtual StatusOr<std::optional<double>> get_double(std::string_view key) const = 0;
  virtual StatusOr<std::optional<bool>> get_bool(std::string_view key) const = 0;
  virtual StatusOr<std::optional<std::string>> get_string(std::string_view key) const = 0;
  // How errors spell the field: with the path to it.
  virtual std::string full_name(std::string_view key) const = 0;

  // These leave `out` alone where the field is absent...
  Status read_int(std::string_view key, int64_t low, int64_t high, int& out) const;
  Status read_double(std::string_view key, double low, double high, double& out) const;
  Status read_float(std::string_view key, double low, double high, float& out) const;
  Status read_bool(std::string_view key, bool& out) const;
  // ...and these then fail, but for a `fallback` above 0.
  Status need_int(std::string_view key, int64_t low, int64_t high, int& out,
                  int fallback = 0) const;
  Status need_double(std::string_view key, double low, double high, double& out,
                     double fallback = 0) const;

  Status invalid(std::string_view key, std::string_view why) const;
  Status unsupported(std::string_view key, std::string_view why) const;
};

class JsonFields final : public ConfigFields {
 public:
  // `object` outlives this. `path`: "" or "rope_scaling."
  explicit JsonFields(const Json& object, std::string path = "")
      : object_(object), path_(std::move(path)) {}

  StatusOr<std::optional<int64_t>> get_int(std::string_view key) const override;
  StatusOr<std::optional<double>> get_double(std::string_view key) const override;
  StatusOr<std::optional<bool>> get_bool(std::string_view key) const override;
  StatusOr<std::optional<std::string>> get_string(std::string_view key) const override;
  std::string full_name(std::string_view key) const override;

  const Json* find(std::string_view key) const;                  // null: absent or JSON null
  StatusOr<const Json*> get_object(std::string_view key) const;  // null: absent
  StatusOr<const Json*> get_array(std::string_view key) const;   // null: absent

 private:
  const Json& object_;
  std::string path_;
};

class GgufFields final : public ConfigFields {
 public:
  // `prefix`: "llama."
  GgufFields(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  // An array whose elements are all equal counts as one number: per-layer fields that do not vary.
  StatusOr<std::optional<int64_t>> get_int(std::string_view key) const override;
  StatusOr<std::optional<double>> get_double(std::string_view key) const override;
  StatusOr<std::optional<bool>> get_bool(std::string_view key) const override;
  StatusOr<std::optional<std::string>> get_string(std::string_view key) const override;
  std::string full_name(std::string_view key) const override;

 private:
  const GgufFile& file_;
  std::string prefix_;
};

}  // namespace pelton
