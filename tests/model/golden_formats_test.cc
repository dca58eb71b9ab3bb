// The tiny models of tests/goldens/models, written by the libraries of each format: both formats
// of a model, and both wordings of its config, must mean the same.
#include <filesystem>
#include <map>

#include "backend/quantized_blocks.h"
#include "model/formats/gguf.h"
#include "model/formats/mapped_file.h"
#include "model/model_files.h"
#include "model/rope.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> golden_models() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(PELTON_SOURCE_DIR "/tests/goldens/models")) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  return folders;
}

std::vector<float> floats(const WeightTensor& tensor) {
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes()));
  tensor.read_rows(0, tensor.rows(), bytes.data());
  std::vector<float> out(static_cast<size_t>(tensor.rows() * tensor.cols()));
  dequantize(tensor.dtype(), bytes.data(), tensor.rows() * tensor.cols(), out.data());
  return out;
}

void check_same_rope(const RopeConfig& a, const RopeConfig& b, int head_dim) {
  const RopeSpec first = rope_spec(a, head_dim, 64);
  const RopeSpec second = rope_spec(b, head_dim, 64);
  CHECK(first.magnitude == Approx(second.magnitude));
  for (size_t i = 0; i < first.inverse_frequencies.size(); ++i) {
    CHECK(first.inverse_frequencies[i] == Approx(second.inverse_frequencies[i]).epsilon(1e-6));
  }
}

void check_same_config(const ModelConfig& a, const ModelConfig& b) {
  CHECK(a.architecture == b.architecture);
  CHECK(a.num_layers == b.num_layers);
  CHECK(a.hidden_size == b.hidden_size);
  CHECK(a.num_heads == b.num_heads);
  CHECK(a.num_kv_heads == b.num_kv_heads);
  CHECK(a.head_dim == b.head_dim);
  CHECK(a.intermediate_size == b.intermediate_size);
  CHECK(a.vocab_size == b.vocab_size);
  CHECK(a.max_positions == b.max_positions);
  CHECK(a.norm_eps == b.norm_eps);
  CHECK(a.activation == b.activation);
  CHECK(a.sliding_window == b.sliding_window);
  CHECK(a.window_layer == b.window_layer);
  CHECK(a.attention_scale == b.attention_scale);
  CHECK(a.attention_softcap == b.attention_softcap);
  CHECK(a.final_logit_softcap == b.final_logit_softcap);
  CHECK(a.embedding_scale == b.embedding_scale);
  CHECK(a.tie_embeddings == b.tie_embeddings);
  CHECK(a.qkv_bias == b.qkv_bias);
  CHECK(a.o_bias == b.o_bias);
  CHECK(a.mlp_bias == b.mlp_bias);
  if (a.architecture == "gpt2") return;
  check_same_rope(a.rope, b.rope, a.head_dim);
  check_same_rope(a.local_rope, b.local_rope, a.head_dim);
}

}  // namespace

TEST_CASE("both wordings of a golden model's config mean the same") {
  for (const fs::path& folder : golden_models()) {
    INFO(folder.string());
    const auto read = [&](const char* name) {
      auto text = read_small_file((folder / name).string(), 1 << 20);
      REQUIRE(text.ok());
      auto config = model_config_from_json(*text);
      INFO(std::string(config.status().message()));
      REQUIRE(config.ok());
      return *config;
    };
    const ModelConfig older = read("config.json");
    const ModelConfig newer = read("config_v5.json");
    check_same_config(older, newer);
    CHECK(older.eos_ids == newer.eos_ids);
  }
}

TEST_CASE("both formats of a golden model give equal canonical tensors") {
  std::map<std::string, int> models_of;
  for (const fs::path& folder : golden_models()) {
    INFO(folder.string());
    auto hf = open_model_files(folder.string(), {});
    INFO(std::string(hf.status().message()));
    REQUIRE(hf.ok());
    CHECK(hf->weights->warnings().empty());
    const std::string path = (folder / "model.gguf").string();
    if (!fs::exists(path)) continue;
    auto gguf = open_model_files(path, {});
    INFO(std::string(gguf.status().message()));
    REQUIRE(gguf.ok());
    CHECK(gguf->weights->warnings().empty());
    check_same_config(hf->config, gguf->config);
    REQUIRE(hf->weights->tensors().size() == gguf->weights->tensors().size());
    for (const auto& tensor : hf->weights->tensors()) {
      INFO(tensor->name());
      const WeightTensor* other = gguf->weights->find(tensor->role(), tensor->layer());
      REQUIRE(other != nullptr);
      CHECK(floats(*tensor) == floats(*other));
    }
    ++models_of[hf->config.architecture];
  }
  for (const Architecture& row : architectures()) {
    INFO(row.name);
    CHECK(models_of[std::string(row.name)] >= 1);
  }
}

}  // namespace pelton
