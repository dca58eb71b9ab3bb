// Safetensors: one file, or a folder's shards joined by model.safetensors.index.json. Everything is
// validated before it is used; data stays in the mapping. Immutable once open, so thread-safe.
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

inline constexpr size_t kMaxSafetensorsHeaderBytes = size_t{64} << 20;
inline constexpr size_t kMaxSafetensorsTensors = size_t{1} << 17;
inline constexpr size_t kMaxSafetensorsShards = 4096;

struct SafetensorsTensor {
  std::string name;            // valid UTF-8, unique
  std::string dtype_name;      // as the file spells it: "BF16"
  std::optional<DType> dtype;  // none: a known type that no weight of ours can have (I64, BOOL)
  std::vector<int64_t> shape;  // at most 8 dimensions, possibly 0 (a scalar)
  std::span<const std::byte> data;  // in the mapping; may be misaligned for the dtype
};

class SafetensorsModel {
 public:
  // `path`: a .safetensors file, or a folder holding model.safetensors or
  // model.safetensors.index.json and its shards.
  static StatusOr<std::shared_ptr<const SafetensorsModel>> open(const std::string& path);

  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  const SafetensorsTensor* find(std::string_view name) const;        // null: absent
  const MappedFile* file_of(const SafetensorsTensor& tensor) const;  // null: it has no data

 private:
  SafetensorsModel() = default;
  Status add_file(const std::string& path);
  Status add_shards(const std::string& folder, const std::string& index_path);

  std::vector<MappedFile> files_;
  std::vector<SafetensorsTensor> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_;  // views of tensors_' names
};

// The header and data of one file, checked in full; views point into `file`.
StatusOr<std::vector<SafetensorsTensor>> parse_safetensors(std::span<const std::byte> file);

}  // namespace pelton
