// GGUF (versions 2 and 3, little-endian): metadata and tensors of one file. Everything is validated
// before it is used; strings, arrays and data stay in the mapping. Immutable, so thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "core/status.h"
#include "model/formats/mapped_file.h"

namespace pelton {

inline constexpr uint64_t kMaxGgufKeys = 1U << 16;
inline constexpr uint64_t kMaxGgufTensors = 1U << 17;
inline constexpr uint64_t kMaxGgufNameBytes = 1U << 12;    // keys and tensor names
inline constexpr uint64_t kMaxGgufStringBytes = 1U << 24;  // one string value
inline constexpr uint64_t kMaxGgufArray = 1U << 22;        // elements of one array
inline constexpr int kMaxGgufNesting = 4;                  // arrays of arrays

// The file's numbers for value types.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

struct GgufValue {
  GgufType type = GgufType::kU8;
  GgufType element = GgufType::kU8;       // of an array
  uint64_t count = 0;                     // elements of an array; 1 else
  std::span<const std::byte> raw;         // numbers and bools, as stored, unaligned
  std::string_view string;                // kString; valid UTF-8
  std::vector<std::string_view> strings;  // array of strings; each valid UTF-8
  std::vector<GgufValue> arrays;          // array of arrays

  // Element i of a number, a bool or an array of such (i < count), whatever its stored type.
  // Integers: nullopt where it is no integer or does not fit.
  std::optional<int64_t> as_int(uint64_t i = 0) const;
  std::optional<double> as_double(uint64_t i = 0) const;  // integers too
};

struct GgufTensor {
  std::string_view name;            // valid UTF-8, unique
  DType dtype;                      // of the supported list
  std::vector<int64_t> shape;       // outermost first ([rows, cols]), unlike in the file; 1 to 4
  std::span<const std::byte> data;  // in the mapping, aligned to general.alignment
};

class GgufFile {
 public:
  static StatusOr<std::shared_ptr<const GgufFile>> open(const std::string& path);
  // Parses bytes that outlive the result.
  static StatusOr<std::shared_ptr<const GgufFile>> parse(std::span<const std::byte> bytes);

  uint32_t version() const { return version_; }
  // What holds the tensors' data; null: the bytes given to parse().
  const MappedFile* mapped_file() const { return file_ ? &*file_ : nullptr; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;          // null: absent
  const GgufValue* find(std::string_view key) const;                   // null: absent
  const std::vector<std::string_view>& keys() const { return keys_; }  // in the file's order

  // Typed reads. nullopt (or empty) where the key is absent; INVALID_ARGUMENT naming the key where
  // it has another type or does not fit.
  StatusOr<std::optional<int64_t>> get_int(std::string_view key) const;
  StatusOr<std::optional<double>> get_double(std::string_view key) const;
  StatusOr<std::optional<bool>> get_bool(std::string_view key) const;
  StatusOr<std::optional<std::string_view>> get_string(std::string_view key) const;
  StatusOr<std::span<const std::string_view>> get_strings(std::string_view key) const;
  StatusOr<std::vector<float>> get_floats(std::string_view key) const;
  StatusOr<std::vector<int32_t>> get_ints(std::string_view key) const;

 private:
  GgufFile() = default;

  std::optional<MappedFile> file_;
  uint32_t version_ = 0;
  std::vector<std::string_view> keys_;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_by_name_;

  friend class GgufParser;
};

}  // namespace pelton
