#include "tests/support/catch.h"

#include "model/formats/gguf.h"
#include "model/model_files.h"
#include "tests/support/model_cache.h"

namespace pelton {

TEST_CASE("the demo model opens with its published sizes and no warning") {
  const std::string path = smollm2_path();
  if (path.empty()) return;
  auto files = open_model_files(path, {});
  REQUIRE(files.ok());
  const ModelConfig& config = files->config;
  CHECK(config.architecture == "llama");
  CHECK(config.num_layers == 30);
  CHECK(config.hidden_size == 576);
  CHECK(config.num_heads == 9);
  CHECK(config.num_kv_heads == 3);
  CHECK(config.head_dim == 64);
  CHECK(config.vocab_size == 49152);
  CHECK(config.rope.theta == 1e5);
  CHECK(config.tie_embeddings);
  CHECK(config.eos_ids == std::vector<TokenId>{2});

  CHECK(files->weights->warnings().empty());
  CHECK(files->weights->tensors().size() == 2 + 30 * 9);
  CHECK(files->weights->find(TensorRole::kTokenEmbedding)->dtype() == DType::kQ8_0);
  CHECK(files->weights->find(TensorRole::kDown, 29)->dtype() == DType::kQ4_1);
  CHECK(files->weights->find(TensorRole::kLmHead) == nullptr);
  // Rows of Q and K are permuted, those of V are not.
  CHECK(files->weights->find(TensorRole::kQ, 0)->mapped() == nullptr);
  CHECK(files->weights->find(TensorRole::kV, 0)->mapped() != nullptr);

  auto tokens = files->gguf->get_strings("tokenizer.ggml.tokens");
  REQUIRE(tokens.ok());
  REQUIRE(tokens->size() == 49152);
  CHECK((*tokens)[2] == "<|im_end|>");
  CHECK(files->gguf->get_ints("tokenizer.ggml.token_type")->size() == 49152);
}

}  // namespace pelton
