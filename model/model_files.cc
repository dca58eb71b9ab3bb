#include "model/model_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "model/formats/gguf.h"
#include "model/formats/mapped_file.h"
#include "model/formats/safetensors.h"

namespace pelton {
namespace {

namespace fs = std::filesystem;
constexpr size_t kMaxConfigBytes = size_t{4} << 20;

StatusOr<ModelConfig> read_config(const fs::path& file) {
  PELTON_ASSIGN_OR_RETURN(const std::string config,
                          read_small_file(file.string(), kMaxConfigBytes));
  std::string generation;
  const fs::path beside = file.parent_path() / "generation_config.json";
  std::error_code ignored;
  if (file.filename() == "config.json" && fs::exists(beside, ignored)) {
    PELTON_ASSIGN_OR_RETURN(generation, read_small_file(beside.string(), kMaxConfigBytes));
  }
  StatusOr<ModelConfig> parsed = model_config_from_json(config, generation);
  if (!parsed.ok()) return annotate(parsed.status(), file.string());
  return parsed;
}

Status add_architecture(ModelFiles& files) {
  files.architecture = find_architecture(files.config.architecture);
  return files.architecture != nullptr ? absl::OkStatus()
                                       : invalid_field("architecture", "unknown");
}

StatusOr<ModelFiles> open_gguf(const std::string& path, const ModelFilesOptions& options) {
  ModelFiles files;
  PELTON_ASSIGN_OR_RETURN(files.gguf, GgufFile::open(path));
  StatusOr<ModelConfig> config = model_config_from_gguf(*files.gguf);
  if (!config.ok()) return annotate(config.status(), path);
  files.config = *std::move(config);
  PELTON_RETURN_IF_ERROR(add_architecture(files));
  auto weights = open_weights(files.gguf, files.config, options.shard);
  if (!weights.ok()) return annotate(weights.status(), path);
  files.weights = *std::move(weights);
  return files;
}

StatusOr<ModelFiles> open_folder(const std::string& path, const ModelFilesOptions& options) {
  ModelFiles files;
  files.folder = path;
  PELTON_ASSIGN_OR_RETURN(files.config, read_config(fs::path(path) / "config.json"));
  PELTON_RETURN_IF_ERROR(add_architecture(files));
  PELTON_ASSIGN_OR_RETURN(auto tensors, SafetensorsModel::open(path));
  auto weights = open_weights(std::move(tensors), files.config, options.shard);
  if (!weights.ok()) return annotate(weights.status(), path);
  files.weights = *std::move(weights);
  return files;
}

StatusOr<ModelFiles> open_dummy(const std::string& path, bool folder,
                                const ModelFilesOptions& options) {
  ModelFiles files;
  if (folder) files.folder = path;
  PELTON_ASSIGN_OR_RETURN(files.config,
                          read_config(folder ? fs::path(path) / "config.json" : fs::path(path)));
  PELTON_RETURN_IF_ERROR(add_architecture(files));
  const DType dtype = options.dummy_dtype.value_or(files.config.dtype);
  PELTON_ASSIGN_OR_RETURN(files.weights,
                          dummy_weights(files.config, dtype, options.seed, options.shard));
  return files;
}

}  // namespace

StatusOr<ModelFiles> open_model_files(const std::string& path, const ModelFilesOptions& options) {
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  if (!folder && !fs::exists(path, ignored)) {
    return absl::NotFoundError(fmt::format("{}: no such model", path));
  }
  if (options.load_format == LoadFormat::kDummy) return open_dummy(path, folder, options);
  if (folder) return open_folder(path, options);
  if (path.ends_with(".gguf")) return open_gguf(path, options);
  return absl::InvalidArgumentError(fmt::format("{}: neither a folder nor a .gguf file", path));
}

}  // namespace pelton
