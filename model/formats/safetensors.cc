#include "model/formats/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "model/formats/json.h"

namespace pelton {
namespace {

static_assert(std::endian::native == std::endian::little, "both formats are little-endian");

constexpr size_t kMaxDims = 8;
constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxIndexBytes = size_t{64} << 20;
constexpr size_t kMaxJsonValues = size_t{1} << 21;

struct FileType {
  std::string_view name;
  int64_t bytes;
  std::optional<DType> dtype;
};
constexpr std::array<FileType, 15> kFileTypes = {{
    {"F32", 4, DType::kF32},
    {"F16", 2, DType::kF16},
    {"BF16", 2, DType::kBF16},
    {"F8_E4M3", 1, DType::kF8E4M3},
    {"I8", 1, DType::kI8},
    {"I32", 4, DType::kI32},
    {"F64", 8, {}},
    {"I64", 8, {}},
    {"U64", 8, {}},
    {"U32", 4, {}},
    {"I16", 2, {}},
    {"U16", 2, {}},
    {"F8_E5M2", 1, {}},
    {"U8", 1, {}},
    {"BOOL", 1, {}},
}};

Status bad_tensor(std::string_view name, std::string_view why) {
  Status status = absl::InvalidArgumentError(fmt::format("tensor {}: {}", name, why));
  set_error_field(status, name);
  return status;
}

std::optional<int64_t> non_negative(const Json& value) {
  const std::optional<int64_t> number = json_int(value);
  return number && *number >= 0 ? number : std::nullopt;
}

StatusOr<std::vector<int64_t>> parse_shape(const Json& entry, std::string_view name) {
  const Json* value = json_member(entry, "shape");
  if (value == nullptr || !value->is_array()) return bad_tensor(name, "shape is not an array");
  if (value->size() > kMaxDims) return bad_tensor(name, "more than 8 dimensions");
  std::vector<int64_t> shape;
  for (const Json& item : *value) {
    const std::optional<int64_t> extent = non_negative(item);
    if (!extent) return bad_tensor(name, "a dimension is not a non-negative integer");
    shape.push_back(*extent);
  }
  return shape;
}

// Bytes [begin, end) of the data section.
StatusOr<std::pair<int64_t, int64_t>> parse_offsets(const Json& entry, std::string_view name,
                                                    size_t data_bytes) {
  const Json* value = json_member(entry, "data_offsets");
  if (value == nullptr || !value->is_array() || value->size() != 2) {
    return bad_tensor(name, "data_offsets is not an array of two");
  }
  const std::optional<int64_t> begin = non_negative((*value)[0]);
  const std::optional<int64_t> end = non_negative((*value)[1]);
  if (!begin || !end) return bad_tensor(name, "data_offsets are not non-negative integers");
  if (*begin > *end || static_cast<uint64_t>(*end) > data_bytes) {
    return bad_tensor(name, fmt::format("data_offsets [{}, {}] lie outside the {} bytes of data",
                                        *begin, *end, data_bytes));
  }
  return std::pair(*begin, *end);
}

StatusOr<SafetensorsTensor> parse_entry(std::string_view name, const Json& entry,
                                        std::span<const std::byte> data) {
  if (name.empty() || name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError("a tensor name is empty or longer than 4096 bytes");
  }
  if (!entry.is_object()) return bad_tensor(name, "entry is not an object");
  const Json* dtype = json_member(entry, "dtype");
  if (dtype == nullptr || !dtype->is_string()) return bad_tensor(name, "dtype is not a string");

  SafetensorsTensor tensor;
  tensor.name = name;
  tensor.dtype_name = *json_string(*dtype);
  const auto* type = std::ranges::find(kFileTypes, tensor.dtype_name, &FileType::name);
  if (type == kFileTypes.end()) {
    return bad_tensor(name, fmt::format("unknown dtype {:.32}", tensor.dtype_name));
  }
  tensor.dtype = type->dtype;
  PELTON_ASSIGN_OR_RETURN(tensor.shape, parse_shape(entry, name));
  PELTON_ASSIGN_OR_RETURN(const auto offsets, parse_offsets(entry, name, data.size()));

  int64_t bytes = type->bytes;
  for (const int64_t extent : tensor.shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return bad_tensor(name, "shape overflows");
  }
  if (bytes != offsets.second - offsets.first) {
    return bad_tensor(name, fmt::format("shape and dtype ask for {} bytes, data_offsets give {}",
                                        bytes, offsets.second - offsets.first));
  }
  tensor.data = data.subspan(static_cast<size_t>(offsets.first), static_cast<size_t>(bytes));
  return tensor;
}

Status check_metadata(const Json& value) {
  if (!value.is_object()) return absl::InvalidArgumentError("__metadata__ is not an object");
  for (const Json& item : value) {
    if (!item.is_string()) {
      return absl::InvalidArgumentError("a value of __metadata__ is not a string");
    }
  }
  return absl::OkStatus();
}

// The format allows neither gaps nor overlaps.
Status check_layout(const std::vector<SafetensorsTensor>& tensors,
                    std::span<const std::byte> data) {
  std::vector<const SafetensorsTensor*> order;
  order.reserve(tensors.size());
  for (const SafetensorsTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const SafetensorsTensor* tensor) {
    return std::pair(tensor->data.data(), tensor->data.size());
  });
  const std::byte* expected = data.data();
  for (const SafetensorsTensor* tensor : order) {
    if (tensor->data.data() != expected) {
      return bad_tensor(tensor->name, tensor->data.data() < expected
                                          ? "its data overlap another tensor's"
                                          : "there is a gap before its data");
    }
    expected += tensor->data.size();
  }
  if (expected != data.data() + data.size()) {
    return absl::InvalidArgumentError(
        fmt::format("{} bytes at the end of the file belong to no tensor",
                    data.data() + data.size() - expected));
  }
  return absl::OkStatus();
}

// A shard's name must not lead out of its folder.
bool plain_file_name(std::string_view name) {
  return name.size() <= 255 && name.ends_with(".safetensors") && name.front() != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

StatusOr<std::vector<SafetensorsTensor>> parse_safetensors(std::span<const std::byte> file) {
  uint64_t header_bytes = 0;
  if (file.size() < sizeof(header_bytes)) return absl::InvalidArgumentError("no room for a header");
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  const std::span<const std::byte> rest = file.subspan(sizeof(header_bytes));
  if (header_bytes > rest.size()) {
    return absl::InvalidArgumentError(
        fmt::format("a header of {} bytes in a file of {}", header_bytes, file.size()));
  }
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return absl::ResourceExhaustedError(fmt::format("a header of {} bytes, at most {} are read",
                                                    header_bytes, kMaxSafetensorsHeaderBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), header_bytes);
  const std::span<const std::byte> data = rest.subspan(header_bytes);
  if (!text.starts_with('{')) return absl::InvalidArgumentError("the header is not a JSON object");
  PELTON_ASSIGN_OR_RETURN(
      const Json header,
      parse_json_object(
          text, "header",
          {.max_bytes = kMaxSafetensorsHeaderBytes, .max_depth = 4, .max_values = kMaxJsonValues}));
  if (header.size() > kMaxSafetensorsTensors) {
    return absl::ResourceExhaustedError(
        fmt::format("{} tensors, at most {} are read", header.size(), kMaxSafetensorsTensors));
  }
  std::vector<SafetensorsTensor> tensors;
  tensors.reserve(header.size());
  for (const auto& item : header.items()) {
    const std::string& name = item.key();
    if (name == "__metadata__") {
      PELTON_RETURN_IF_ERROR(check_metadata(item.value()));
      continue;
    }
    PELTON_ASSIGN_OR_RETURN(SafetensorsTensor tensor, parse_entry(name, item.value(), data));
    tensors.push_back(std::move(tensor));
  }
  PELTON_RETURN_IF_ERROR(check_layout(tensors, data));
  return tensors;
}

Status SafetensorsModel::add_file(const std::string& path) {
  PELTON_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  StatusOr<std::vector<SafetensorsTensor>> tensors = parse_safetensors(file.bytes());
  if (!tensors.ok()) return annotate(tensors.status(), path);
  if (tensors->size() + tensors_.size() > kMaxSafetensorsTensors) {
    return absl::ResourceExhaustedError(
        fmt::format("{}: more than {} tensors in all shards", path, kMaxSafetensorsTensors));
  }
  files_.push_back(std::move(file));
  std::ranges::move(*tensors, std::back_inserter(tensors_));
  return absl::OkStatus();
}

Status SafetensorsModel::add_shards(const std::string& folder, const std::string& index_path) {
  PELTON_ASSIGN_OR_RETURN(const std::string text, read_small_file(index_path, kMaxIndexBytes));
  PELTON_ASSIGN_OR_RETURN(const Json index, parse_json_object(text, index_path,
                                                              {.max_bytes = kMaxIndexBytes,
                                                               .max_depth = 8,
                                                               .max_values = kMaxJsonValues}));
  const Json* map = json_member(index, "weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(fmt::format("{}: no weight_map", index_path));
  }
  std::map<std::string, std::vector<std::string>, std::less<>> names_of_shard;
  for (const auto& item : map->items()) {
    const std::optional<std::string_view> shard = json_string(item.value());
    if (!shard || !plain_file_name(*shard)) {
      return annotate(bad_tensor(item.key(), "its shard is not a plain .safetensors file name"),
                      index_path);
    }
    names_of_shard[std::string(*shard)].push_back(item.key());
  }
  if (names_of_shard.size() > kMaxSafetensorsShards) {
    return absl::ResourceExhaustedError(fmt::format("{}: {} shards, at most {} are read",
                                                    index_path, names_of_shard.size(),
                                                    kMaxSafetensorsShards));
  }
  for (const auto& [shard, names] : names_of_shard) {
    const size_t first = tensors_.size();
    PELTON_RETURN_IF_ERROR(add_file((std::filesystem::path(folder) / shard).string()));
    std::set<std::string_view> present;
    for (size_t i = first; i < tensors_.size(); ++i) present.insert(tensors_[i].name);
    for (const std::string& name : names) {
      if (!present.contains(name)) {
        return annotate(bad_tensor(name, fmt::format("not in its shard {}", shard)), index_path);
      }
    }
  }
  return absl::OkStatus();
}

StatusOr<std::shared_ptr<const SafetensorsModel>> SafetensorsModel::open(const std::string& path) {
  std::shared_ptr<SafetensorsModel> model(new SafetensorsModel);
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    PELTON_RETURN_IF_ERROR(model->add_file(path));
  } else {
    const std::string single = (std::filesystem::path(path) / "model.safetensors").string();
    const std::string index = single + ".index.json";
    if (std::filesystem::exists(index, ignored)) {
      PELTON_RETURN_IF_ERROR(model->add_shards(path, index));
    } else {
      PELTON_RETURN_IF_ERROR(model->add_file(single));
    }
  }
  model->by_name_.reserve(model->tensors_.size());
  for (size_t i = 0; i < model->tensors_.size(); ++i) {
    if (!model->by_name_.emplace(model->tensors_[i].name, i).second) {
      return annotate(bad_tensor(model->tensors_[i].name, "it stands in two shards"), path);
    }
  }
  return model;
}

const MappedFile* SafetensorsModel::file_of(const SafetensorsTensor& tensor) const {
  if (tensor.data.empty()) return nullptr;
  const auto holds = [&](const MappedFile& file) {
    return file.bytes().data() <= tensor.data.data() &&
           tensor.data.data() < file.bytes().data() + file.bytes().size();
  };
  const auto found = std::ranges::find_if(files_, holds);
  return found == files_.end() ? nullptr : &*found;
}

const SafetensorsTensor* SafetensorsModel::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace pelton
