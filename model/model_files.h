// Opens what the user named as MODEL: a Hugging Face folder, a .gguf file, or (load format dummy) a
// config.json or its folder. Blocking file work; call off the engine and I/O threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/status.h"
#include "model/architecture.h"
#include "model/model_config.h"
#include "model/weight_source.h"

namespace pelton {

enum class LoadFormat : uint8_t { kAuto, kDummy };

struct ModelFilesOptions {
  LoadFormat load_format = LoadFormat::kAuto;
  std::optional<DType> dummy_dtype;  // dummy: of the matrices; none: the config's dtype
  uint64_t seed = 0;                 // dummy
  ShardSpec shard;
};

struct ModelFiles {
  ModelConfig config;
  const Architecture* architecture = nullptr;
  std::unique_ptr<WeightSource> weights;
  std::shared_ptr<const GgufFile> gguf;  // null unless a GGUF file: its tokenizer and template
  std::string folder;                    // the Hugging Face folder, for tokenizer.json; "" else
};

StatusOr<ModelFiles> open_model_files(const std::string& path, const ModelFilesOptions& options);

}  // namespace pelton
