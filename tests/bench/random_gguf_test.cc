#include "bench/random_gguf.h"

#include <cstring>
#include <fstream>
#include <vector>

#include "model/model_files.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace pelton::bench {
namespace {

constexpr std::string_view kConfig = R"({"architectures": ["LlamaForCausalLM"],
  "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000,
  "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 12345.0,
  "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "bfloat16"})";

std::string write_config(const TempDir& dir, std::string_view json) {
  const std::string path = (dir.path() / "config.json").string();
  std::ofstream(path) << json;
  return path;
}

std::vector<char> bytes_of(const WeightTensor& tensor) {
  std::vector<char> out(static_cast<size_t>(tensor.bytes()));
  tensor.read_rows(0, tensor.rows(), out.data());
  return out;
}

}  // namespace

TEST_CASE("a random GGUF file reads back as the dummy weights that went in") {
  const TempDir dir;
  const DType matrices =
      GENERATE(DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
               DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K);
  INFO(dtype_info(matrices).name);
  const std::string config = write_config(dir, kConfig);
  const std::string path = (dir.path() / "random.gguf").string();
  REQUIRE(write_random_gguf(
              {.config = config, .matrices = matrices, .embedding = DType::kQ6_K, .path = path})
              .ok());
  const auto file = open_model_files(path, {});
  INFO(file.status());
  REQUIRE(file.ok());
  CHECK(file->config.num_layers == 2);
  CHECK(file->config.num_kv_heads == 2);
  CHECK(file->config.vocab_size == 1000);
  CHECK(file->config.rope.theta == 12345.0F);
  CHECK(file->config.tie_embeddings);
  CHECK(file->weights->find(TensorRole::kTokenEmbedding)->dtype() == DType::kQ6_K);
  const auto source = dummy_weights(file->config, matrices, 0);
  REQUIRE(source.ok());
  for (const TensorRole role : {TensorRole::kV, TensorRole::kDown, TensorRole::kAttnNorm}) {
    const WeightTensor* read = file->weights->find(role, 1);
    const WeightTensor* made = (*source)->find(role, 1);
    REQUIRE(read->dtype() == made->dtype());
    CHECK(bytes_of(*read) == bytes_of(*made));
  }
}

TEST_CASE("a random GGUF file of another family or in no folder is refused and leaves nothing") {
  const TempDir dir;
  const std::string path = (dir.path() / "random.gguf").string();
  const std::string shapes = PELTON_SHAPES;
  CHECK(write_random_gguf({.config = shapes + "/gpt2", .path = path}).code() ==
        absl::StatusCode::kUnimplemented);
  const std::string config = write_config(dir, kConfig);
  CHECK_FALSE(write_random_gguf({.config = config, .path = "/no/such/folder/x.gguf"}).ok());
  CHECK(write_random_gguf({.config = config, .matrices = DType::kI8, .path = path}).code() ==
        absl::StatusCode::kUnimplemented);
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_FALSE(std::filesystem::exists(path + ".part"));
}

}  // namespace pelton::bench
