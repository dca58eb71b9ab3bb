#include "bench/random_gguf.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "model/formats/gguf.h"
#include "model/model_files.h"

namespace pelton::bench {
namespace {

constexpr size_t kAlignment = 32;

// The file's numbers for the types that weights may have.
StatusOr<uint32_t> type_number(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
    case DType::kBF16:
      return 30;
    default:
      return absl::UnimplementedError(
          fmt::format("GGUF holds no weights of {}", dtype_info(dtype).name));
  }
}

// The head of the file: what the format's specification calls metadata and tensor infos.
class Head {
 public:
  void add_u32(const std::string& key, uint32_t value) {
    begin(key, GgufType::kU32);
    put(keys_, value);
  }
  void add_f32(const std::string& key, float value) {
    begin(key, GgufType::kF32);
    put(keys_, value);
  }
  void add_string(const std::string& key, const std::string& value) {
    begin(key, GgufType::kString);
    put_string(keys_, value);
  }
  Status add_tensor(const std::string& name, const WeightTensor& tensor) {
    PELTON_ASSIGN_OR_RETURN(const uint32_t type, type_number(tensor.dtype()));
    put_string(tensors_, name);
    const bool vector = tensor_role_info(tensor.role()).vector;
    put(tensors_, uint32_t{vector ? 1U : 2U});
    put(tensors_, static_cast<uint64_t>(tensor.cols()));
    if (!vector) put(tensors_, static_cast<uint64_t>(tensor.rows()));
    put(tensors_, type);
    put(tensors_, offset_);
    offset_ += padded(static_cast<uint64_t>(tensor.bytes()));
    ++tensor_count_;
    return absl::OkStatus();
  }
  std::string bytes() const {
    std::string out = "GGUF";
    put(out, uint32_t{3});
    put(out, tensor_count_);
    put(out, key_count_);
    out += keys_ + tensors_;
    out.resize(padded(out.size()), '\0');
    return out;
  }
  static uint64_t padded(uint64_t size) {
    return (size + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  template <typename T>
  static void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  static void put_string(std::string& out, const std::string& value) {
    put(out, uint64_t{value.size()});
    out += value;
  }
  void begin(const std::string& key, GgufType type) {
    put_string(keys_, key);
    put(keys_, static_cast<uint32_t>(type));
    ++key_count_;
  }

  uint64_t tensor_count_ = 0, key_count_ = 0, offset_ = 0;
  std::string keys_, tensors_;
};

void add_config(const ModelConfig& config, const std::string& name, Head& head) {
  const auto u32 = [&](const char* key, int value) {
    head.add_u32(fmt::format("{}.{}", config.architecture, key), static_cast<uint32_t>(value));
  };
  head.add_string("general.architecture", std::string(config.architecture));
  head.add_string("general.name", name);
  u32("block_count", config.num_layers);
  u32("embedding_length", config.hidden_size);
  u32("feed_forward_length", config.intermediate_size);
  u32("context_length", config.max_positions);
  u32("attention.head_count", config.num_heads);
  u32("attention.head_count_kv", config.num_kv_heads);
  u32("attention.key_length", config.head_dim);
  u32("attention.value_length", config.head_dim);
  u32("rope.dimension_count", config.head_dim);
  u32("vocab_size", config.vocab_size);
  head.add_f32("llama.attention.layer_norm_rms_epsilon", config.norm_eps);
  head.add_f32("llama.rope.freq_base", static_cast<float>(config.rope.theta));
  head.add_string("tokenizer.ggml.model", "no_vocab");
}

StatusOr<std::string> file_name(const Architecture& row, const WeightTensor& tensor) {
  for (const TensorSource& source : row.gguf.tensors) {
    if (source.role != tensor.role()) continue;
    std::string name(source.name);
    if (const size_t at = name.find("{}"); at != std::string::npos) {
      name.replace(at, 2, std::to_string(tensor.layer()));
    }
    return name;
  }
  return absl::InternalError(fmt::format("GGUF has no name for {}", tensor.name()));
}

void write_tensor(const WeightTensor& tensor, std::ofstream& out) {
  constexpr int64_t kChunk = int64_t{4} << 20;
  const int64_t rows = std::max<int64_t>(1, kChunk / tensor.row_bytes());
  std::vector<char> bytes;
  for (int64_t row = 0; row < tensor.rows(); row += rows) {
    const int64_t end = std::min(tensor.rows(), row + rows);
    bytes.resize(static_cast<size_t>((end - row) * tensor.row_bytes()));
    tensor.read_rows(row, end, bytes.data());
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  const auto size = static_cast<uint64_t>(tensor.bytes());
  const std::string padding(Head::padded(size) - size, '\0');
  out.write(padding.data(), static_cast<std::streamsize>(padding.size()));
}

}  // namespace

Status write_random_gguf(const RandomGgufOptions& options) {
  ModelFilesOptions open;
  open.load_format = LoadFormat::kDummy;
  open.dummy_dtype = options.matrices;
  PELTON_ASSIGN_OR_RETURN(const ModelFiles files, open_model_files(options.config, open));
  open.dummy_dtype = options.embedding;
  PELTON_ASSIGN_OR_RETURN(const ModelFiles outer, open_model_files(options.config, open));
  if (files.config.architecture != "llama") {
    return absl::UnimplementedError(
        fmt::format("random GGUF files are of the llama family, not of {}",
                    std::string(files.config.architecture)));
  }
  Head head;
  add_config(files.config, std::filesystem::path(options.path).stem().string(), head);
  std::vector<const WeightTensor*> tensors;
  for (const auto& tensor : files.weights->tensors()) {
    const bool outside =
        tensor->role() == TensorRole::kTokenEmbedding || tensor->role() == TensorRole::kLmHead;
    tensors.push_back(outside ? outer.weights->find(tensor->role()) : tensor.get());
    PELTON_ASSIGN_OR_RETURN(const std::string name, file_name(*files.architecture, *tensor));
    PELTON_RETURN_IF_ERROR(head.add_tensor(name, *tensors.back()));
  }
  const std::string part = options.path + ".part";
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  const std::string bytes = head.bytes();
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  for (const WeightTensor* tensor : tensors) write_tensor(*tensor, out);
  out.close();
  if (!out || std::rename(part.c_str(), options.path.c_str()) != 0) {
    std::remove(part.c_str());
    return absl::PermissionDeniedError(fmt::format("cannot write {}", options.path));
  }
  return absl::OkStatus();
}

}  // namespace pelton::bench
