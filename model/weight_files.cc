// Finds and checks every tensor that an architecture row calls for in an opened model file.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <unordered_set>

#include "core/check.h"
#include "model/file_tensor.h"
#include "model/formats/gguf.h"
#include "model/formats/safetensors.h"
#include "model/weight_source.h"

namespace pelton {
namespace {

constexpr size_t kMaxWarnings = 16;

// One tensor as either format gives it.
struct StoredTensor {
  std::optional<DType> dtype;
  std::string_view dtype_name;
  std::span<const int64_t> shape;
  std::span<const std::byte> data;
  const MappedFile* file = nullptr;  // that holds the data
};

struct StoredFile {
  std::function<std::optional<StoredTensor>(std::string_view)> find;
  std::vector<std::string_view> names;
  const FormatMap* map = nullptr;
};

Status tensor_error(absl::StatusCode code, std::string_view name, std::string_view why) {
  Status status(code, fmt::format("tensor {}: {}", name, why));
  set_error_field(status, name);
  return status;
}

std::string with_layer(std::string_view pattern, int layer) {
  const size_t at = pattern.find("{}");
  if (at == std::string_view::npos) return std::string(pattern);
  return fmt::format("{}{}{}", pattern.substr(0, at), layer, pattern.substr(at + 2));
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

const TensorSource* source_of(const FormatMap& map, TensorRole role) {
  const auto found = std::ranges::find(map.tensors, role, &TensorSource::role);
  return found == map.tensors.end() ? nullptr : &*found;
}

// Rows of all fused parts together, and where `part` begins.
std::pair<int64_t, int64_t> fused_rows(const ModelConfig& config, int8_t part) {
  const int64_t starts[] = {0, config.q_size(), config.q_size() + config.kv_size()};
  return {config.q_size() + 2 * int64_t{config.kv_size()}, starts[part]};
}

class Resolver {
 public:
  Resolver(const StoredFile& file, const Architecture& row, const ModelConfig& config)
      : file_(file), row_(row), config_(config) {}

  StatusOr<std::unique_ptr<WeightSource>> resolve(std::shared_ptr<const void> owner) {
    choose_prefix();
    for (int r = 0; r < kNumTensorRoles; ++r) {
      const auto role = static_cast<TensorRole>(r);
      if (!has_tensor(row_, config_, role)) {
        note_absent(role);
        continue;
      }
      const bool per_layer = tensor_role_info(role).per_layer;
      for (int layer = per_layer ? 0 : -1; layer < (per_layer ? config_.num_layers : 0); ++layer) {
        PELTON_RETURN_IF_ERROR(add(role, layer));
      }
    }
    warn_of_surplus();
    return std::make_unique<WeightSource>(std::move(owner), std::move(tensors_),
                                          std::move(warnings_));
  }

 private:
  void choose_prefix() {
    const TensorSource* embedding = source_of(*file_.map, TensorRole::kTokenEmbedding);
    PELTON_CHECK(embedding != nullptr, "a row without token embedding");
    prefix_ = file_.map->prefixes.front();
    for (const std::string_view prefix : file_.map->prefixes) {
      if (file_.find(fmt::format("{}{}", prefix, embedding->name))) {
        prefix_ = prefix;
        return;
      }
    }
  }

  // The names that a tensor may have; the first is the one that errors speak of.
  std::vector<std::string> names_of(const TensorSource& source, int layer) const {
    const std::string name = with_layer(source.name, layer);
    if (!source.outer) return {fmt::format("{}{}", prefix_, name)};
    std::vector<std::string> names;
    for (const std::string_view prefix : file_.map->outer_prefixes) {
      names.push_back(fmt::format("{}{}", prefix, name));
    }
    return names;
  }

  // A tied model's file may hold its head all the same.
  void note_absent(TensorRole role) {
    const TensorSource* source = source_of(*file_.map, role);
    if (role != TensorRole::kLmHead || source == nullptr) return;
    for (std::string& name : names_of(*source, -1)) used_.insert(std::move(name));
  }

  Status add(TensorRole role, int layer) {
    const TensorSource* source = source_of(*file_.map, role);
    if (source == nullptr) {
      return tensor_error(absl::StatusCode::kUnimplemented, canonical_name(role, layer),
                          "this architecture's files have no place for it");
    }
    const std::vector<std::string> names = names_of(*source, layer);
    for (const std::string& name : names) {
      const std::optional<StoredTensor> stored = file_.find(name);
      if (!stored) continue;
      PELTON_RETURN_IF_ERROR(place(*source, layer, name, *stored));
      used_.insert(name);
      return absl::OkStatus();
    }
    return tensor_error(absl::StatusCode::kNotFound, names.front(), "missing");
  }

  Status place(const TensorSource& source, int layer, const std::string& name,
               const StoredTensor& stored) {
    const TensorShape shape = tensor_shape(source.role, config_);
    const bool vector = tensor_role_info(source.role).vector;
    const int64_t features = vector ? shape.cols : shape.rows;
    FileLayout layout = {.data = stored.data,
                         .dtype = stored.dtype.value_or(DType::kF32),
                         .file_rows = features,
                         .first_row = 0,
                         .head_dim = config_.head_dim,
                         .transform = source.transform,
                         .file = stored.file};
    if (source.transform.fused_part >= 0) {
      std::tie(layout.file_rows, layout.first_row) =
          fused_rows(config_, source.transform.fused_part);
    }
    std::vector<int64_t> wanted = {layout.file_rows};
    if (!vector)
      wanted.insert(source.transform.transpose ? wanted.begin() : wanted.end(), shape.cols);
    if (!std::ranges::equal(stored.shape, wanted)) {
      return tensor_error(
          absl::StatusCode::kInvalidArgument, name,
          fmt::format("its shape is {}, not {}", shape_text(stored.shape), shape_text(wanted)));
    }
    PELTON_RETURN_IF_ERROR(check_dtype(source, name, stored));
    tensors_.push_back(std::make_unique<FileTensor>(source.role, layer, shape, layout));
    return absl::OkStatus();
  }

  static Status check_dtype(const TensorSource& source, const std::string& name,
                            const StoredTensor& stored) {
    const DType dtype = stored.dtype.value_or(DType::kI32);
    const bool plain = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
    if (!plain && !is_quantized(dtype)) {
      return tensor_error(absl::StatusCode::kUnimplemented, name,
                          fmt::format("weights of dtype {} are not supported", stored.dtype_name));
    }
    const bool vector = tensor_role_info(source.role).vector;
    if (is_quantized(dtype) && (vector || source.transform.transpose)) {
      return tensor_error(absl::StatusCode::kUnimplemented, name,
                          fmt::format("dtype {} can not be {} here", stored.dtype_name,
                                      vector ? "read as a vector" : "transposed"));
    }
    return absl::OkStatus();
  }

  bool ignorable(std::string_view name) const {
    return std::ranges::any_of(file_.map->ignorable, [name](std::string_view part) {
      return name.find(part) != std::string_view::npos;
    });
  }

  void warn_of_surplus() {
    size_t surplus = 0;
    for (const std::string_view name : file_.names) {
      if (used_.contains(std::string(name)) || ignorable(name)) continue;
      if (++surplus <= kMaxWarnings) {
        warnings_.push_back(
            fmt::format("tensor {} is not part of architecture {}: ignored", name, row_.name));
      }
    }
    if (surplus > kMaxWarnings) {
      warnings_.push_back(fmt::format("and {} more tensors", surplus - kMaxWarnings));
    }
  }

  const StoredFile& file_;
  const Architecture& row_;
  const ModelConfig& config_;
  std::string_view prefix_;
  std::vector<std::unique_ptr<WeightTensor>> tensors_;
  std::unordered_set<std::string> used_;
  std::vector<std::string> warnings_;
};

StatusOr<std::unique_ptr<WeightSource>> open_stored(const StoredFile& file, const Architecture* row,
                                                    const ModelConfig& config, ShardSpec shard,
                                                    std::shared_ptr<const void> owner) {
  if (row == nullptr) return invalid_field("architecture", "unknown");
  if (shard.rank != 0 || shard.world != 1) {
    return unsupported_field("tensor_parallel_size", "only 1 is built yet");
  }
  return Resolver(file, *row, config).resolve(std::move(owner));
}

}  // namespace

StatusOr<std::unique_ptr<WeightSource>> open_weights(std::shared_ptr<const SafetensorsModel> file,
                                                     const ModelConfig& config, ShardSpec shard) {
  const Architecture* row = find_architecture(config.architecture);
  StoredFile stored;
  if (row != nullptr) stored.map = &row->safetensors;
  for (const SafetensorsTensor& tensor : file->tensors()) stored.names.push_back(tensor.name);
  stored.find = [model = file.get()](std::string_view name) -> std::optional<StoredTensor> {
    const SafetensorsTensor* found = model->find(name);
    if (found == nullptr) return std::nullopt;
    return StoredTensor{found->dtype, found->dtype_name, found->shape, found->data,
                        model->file_of(*found)};
  };
  return open_stored(stored, row, config, shard, file);
}

StatusOr<std::unique_ptr<WeightSource>> open_weights(std::shared_ptr<const GgufFile> file,
                                                     const ModelConfig& config, ShardSpec shard) {
  const Architecture* row = find_architecture(config.architecture);
  StoredFile stored;
  if (row != nullptr) stored.map = &row->gguf;
  for (const GgufTensor& tensor : file->tensors()) stored.names.push_back(tensor.name);
  stored.find = [model = file.get()](std::string_view name) -> std::optional<StoredTensor> {
    const GgufTensor* found = model->find_tensor(name);
    if (found == nullptr) return std::nullopt;
    return StoredTensor{found->dtype, dtype_info(found->dtype).name, found->shape, found->data,
                        model->mapped_file()};
  };
  return open_stored(stored, row, config, shard, file);
}

}  // namespace pelton
