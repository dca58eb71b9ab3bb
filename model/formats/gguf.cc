#include "model/formats/gguf.h"

#include <fmt/format.h>

#include <cstring>
#include <limits>
#include <utility>

#include "model/formats/gguf_parser.h"

namespace pelton {
namespace {

template <typename T>
T load(std::span<const std::byte> raw, uint64_t i) {
  T value;
  std::memcpy(&value, raw.data() + i * sizeof(T), sizeof(T));
  return value;
}

Status wrong_type(std::string_view key, std::string_view wanted) {
  return invalid_field(key, fmt::format("not {}", wanted));
}

}  // namespace

std::optional<int64_t> GgufValue::as_int(uint64_t i) const {
  if (i >= count) return std::nullopt;
  switch (type == GgufType::kArray ? element : type) {
    case GgufType::kU8:
    case GgufType::kBool:
      return load<uint8_t>(raw, i);
    case GgufType::kI8:
      return load<int8_t>(raw, i);
    case GgufType::kU16:
      return load<uint16_t>(raw, i);
    case GgufType::kI16:
      return load<int16_t>(raw, i);
    case GgufType::kU32:
      return load<uint32_t>(raw, i);
    case GgufType::kI32:
      return load<int32_t>(raw, i);
    case GgufType::kI64:
      return load<int64_t>(raw, i);
    case GgufType::kU64: {
      const auto value = load<uint64_t>(raw, i);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    case GgufType::kF32:
    case GgufType::kF64:
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return std::nullopt;
}

std::optional<double> GgufValue::as_double(uint64_t i) const {
  if (i >= count) return std::nullopt;
  const GgufType kind = type == GgufType::kArray ? element : type;
  if (kind == GgufType::kF32) return load<float>(raw, i);
  if (kind == GgufType::kF64) return load<double>(raw, i);
  if (const std::optional<int64_t> integer = as_int(i)) return static_cast<double>(*integer);
  return std::nullopt;
}

StatusOr<std::shared_ptr<const GgufFile>> GgufFile::open(const std::string& path) {
  PELTON_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::open(path));
  std::shared_ptr<GgufFile> file(new GgufFile);
  if (Status status = GgufParser(mapped.bytes(), *file).parse(); !status.ok()) {
    return annotate(status, path);
  }
  file->file_ = std::move(mapped);
  return file;
}

StatusOr<std::shared_ptr<const GgufFile>> GgufFile::parse(std::span<const std::byte> bytes) {
  std::shared_ptr<GgufFile> file(new GgufFile);
  PELTON_RETURN_IF_ERROR(GgufParser(bytes, *file).parse());
  return file;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_by_name_.find(name);
  return found == tensor_by_name_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

StatusOr<std::optional<int64_t>> GgufFile::get_int(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<int64_t>();
  const std::optional<int64_t> number = value->as_int();
  if (value->type == GgufType::kArray || value->type == GgufType::kBool || !number) {
    return wrong_type(key, "an integer");
  }
  return number;
}

StatusOr<std::optional<double>> GgufFile::get_double(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<double>();
  const std::optional<double> number = value->as_double();
  if (value->type == GgufType::kArray || value->type == GgufType::kBool || !number) {
    return wrong_type(key, "a number");
  }
  return number;
}

StatusOr<std::optional<bool>> GgufFile::get_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<bool>();
  if (value->type != GgufType::kBool) return wrong_type(key, "a bool");
  return std::optional<bool>(*value->as_int() != 0);
}

StatusOr<std::optional<std::string_view>> GgufFile::get_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::string_view>();
  if (value->type != GgufType::kString) return wrong_type(key, "a string");
  return std::optional<std::string_view>(value->string);
}

StatusOr<std::span<const std::string_view>> GgufFile::get_strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::span<const std::string_view>();
  if (value->type != GgufType::kArray || value->element != GgufType::kString) {
    return wrong_type(key, "an array of strings");
  }
  return std::span<const std::string_view>(value->strings);
}

StatusOr<std::vector<float>> GgufFile::get_floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::vector<float>();
  if (value->type != GgufType::kArray || value->element != GgufType::kF32) {
    return wrong_type(key, "an array of floats");
  }
  std::vector<float> out(value->count);
  if (!out.empty()) std::memcpy(out.data(), value->raw.data(), value->raw.size());
  return out;
}

StatusOr<std::vector<int32_t>> GgufFile::get_ints(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::vector<int32_t>();
  if (value->type != GgufType::kArray) return wrong_type(key, "an array of integers");
  std::vector<int32_t> out(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const std::optional<int64_t> number = value->as_int(i);
    if (!number || *number < INT32_MIN || *number > INT32_MAX) {
      return wrong_type(key, "an array of 32-bit integers");
    }
    out[i] = static_cast<int32_t>(*number);
  }
  return out;
}

}  // namespace pelton
