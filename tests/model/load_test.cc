#include "model/load.h"

#include <cmath>

#include "tests/model/decoder_driver.h"
#include "tests/model/test_backends.h"
#include "tests/model/tiny_models.h"
#include "tests/support/catch.h"
#include "tests/support/naive_backend.h"

namespace pelton {
namespace {

// Knows no block formats, counts what it is asked to hold, and may fail at the n-th matrix.
class FussyBackend final : public NaiveBackend {
 public:
  int fail_at = -1;
  int held = 0;
  int matrices = 0;

  bool supports_weights(DType dtype) const override { return !is_quantized(dtype); }
  StatusOr<std::unique_ptr<Buffer>> allocate(int64_t bytes) override {
    ++held;
    return NaiveBackend::allocate(bytes);
  }
  StatusOr<std::unique_ptr<Buffer>> upload(std::span<const std::byte> host) override {
    ++held;
    return NaiveBackend::upload(host);
  }
  StatusOr<std::unique_ptr<Matrix>> pack(std::span<const RowSource* const> sources) override {
    ++held;
    if (matrices++ == fail_at) return absl::ResourceExhaustedError("out of memory");
    return NaiveBackend::pack(sources);
  }
};

}  // namespace

TEST_CASE("A weight type without a kernel is refused by name before anything is allocated") {
  FussyBackend backend;
  LoadOptions options = tiny_options();
  options.dummy_dtype = DType::kQ8_0;
  const auto model = load_tiny(tiny_config("llama"), backend, options);
  CHECK(model.status().code() == absl::StatusCode::kUnimplemented);
  CHECK(error_field(model.status()) == "token_embedding");
  CHECK(std::string(model.status().message()).find("q8_0") != std::string::npos);
  CHECK(backend.held == 0);
}

TEST_CASE("A weight that the backend can not hold is named") {
  FussyBackend backend;
  backend.fail_at = 1;  // after the embedding
  const auto model = load_tiny(tiny_config("llama"), backend);
  CHECK(model.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(std::string(model.status().message()) ==
        "layers.0.q, layers.0.k, layers.0.v: out of memory");
}

TEST_CASE("Loading reports progress up to the whole") {
  NaiveBackend backend;
  LoadOptions options = tiny_options();
  std::vector<int64_t> seen;
  int64_t whole = 0;
  options.progress = [&](int64_t done, int64_t total) {
    seen.push_back(done);
    whole = total;
  };
  REQUIRE(load_tiny(tiny_config("gpt2"), backend, options).ok());
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.back() == whole);
}

TEST_CASE("Facts count parameters and bytes as the model has them") {
  NaiveBackend backend;
  const auto model = load_tiny(tiny_config("llama"), backend);
  REQUIRE(model.ok());
  const int64_t layer = 2 * 64 + 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 96 * 64;
  CHECK(model->facts.parameters == 2 * 200 * 64 + 64 + 3 * layer);
  CHECK(model->facts.weight_bytes >= 4 * model->facts.parameters);
  CHECK(model->facts.architecture == "llama");
  CHECK(model->facts.weight_format == "f32");
  CHECK(model->facts.vocab_size == 200);
  CHECK(model->facts.max_model_len == 128);
  CHECK_FALSE(model->facts.shortened);
  CHECK(model->facts.kv_cache_tokens == 8 * 128);
  CHECK(model->facts.kv_cache_bytes == model->runner->cache().bytes());
}

TEST_CASE("An option out of bounds is refused under its name") {
  NaiveBackend backend;
  const auto refused = [&](auto set) {
    LoadOptions options = tiny_options();
    set(options);
    return error_field(load_tiny(tiny_config("llama"), backend, options).status());
  };
  CHECK(refused([](LoadOptions& o) { o.max_num_seqs = 0; }) == "max_num_seqs");
  CHECK(refused([](LoadOptions& o) { o.max_num_seqs = 1 << 20; }) == "max_num_seqs");
  CHECK(refused([](LoadOptions& o) { o.max_num_batched_tokens = 3; }) == "max_num_batched_tokens");
  CHECK(refused([](LoadOptions& o) { o.max_model_len = 257; }) == "max_model_len");
  CHECK(refused([](LoadOptions& o) { o.max_model_len = -1; }) == "max_model_len");
  CHECK(refused([](LoadOptions& o) { o.block_size = 0; }) == "block_size");
  CHECK(refused([](LoadOptions& o) { o.kv_cache_dtype = DType::kF8E4M3; }) == "kv_cache_dtype");
  CHECK(refused([](LoadOptions& o) { o.kv_cache_memory_bytes = -1; }) == "kv_cache_memory_bytes");
  CHECK(refused([](LoadOptions& o) { o.kv_cache_memory_bytes = int64_t{1} << 40; }) ==
        "kv_cache_memory_bytes");
  CHECK(refused([](LoadOptions& o) { o.kv_cache_memory_bytes = 10000; }) == "max_model_len");
}

TEST_CASE("A context length that was not asked for is shortened to what the cache holds") {
  NaiveBackend backend;
  LoadOptions options = tiny_options();
  options.max_model_len = 0;
  options.kv_cache_memory_bytes = 100 * 768;  // 100 tokens
  const auto model = load_tiny(tiny_config("llama"), backend, options);
  REQUIRE(model.ok());
  CHECK(model->facts.max_model_len == 100);
  CHECK(model->facts.shortened);
}

TEST_CASE("Every weight type gives the logits of its dequantised weights") {
  // 256 wide: a whole block of every format.
  constexpr std::string_view kWide = R"({"model_type": "llama", "architectures":
      ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
      "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
      "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "float32"})";
  const std::vector<TokenId> tokens = random_tokens(20, 100, 9);
  int formats = 0;
  for (int i = 0; i < kNumDTypes; ++i) {
    LoadOptions options = tiny_options();
    options.dummy_dtype = static_cast<DType>(i);
    NaiveBackend naive;
    if (!naive.supports_weights(*options.dummy_dtype)) continue;
    ++formats;
    INFO(dtype_info(*options.dummy_dtype).name);
    StatusOr<LoadedModel> reference = load_tiny(kWide, naive, options);
    INFO(reference.status().ToString());
    REQUIRE(reference.ok());
    CHECK(reference->facts.weight_format == dtype_info(*options.dummy_dtype).name);
    const std::vector<float> expected = DecoderDriver(*reference, naive).run(tokens, 20);
    for (const TestBackend& kind : test_backends()) {
      INFO(kind.name);
      const std::unique_ptr<Backend> backend = kind.make();
      StatusOr<LoadedModel> model = load_tiny(kWide, *backend, options);
      INFO(model.status().ToString());
      REQUIRE(model.ok() == backend->supports_weights(*options.dummy_dtype));
      if (!model.ok()) {  // refused by name
        CHECK(std::string(model.status().message()).find(dtype_info(*options.dummy_dtype).name) !=
              std::string::npos);
        continue;
      }
      CHECK(relative_error(DecoderDriver(*model, *backend).run(tokens, 7), expected, 100) < 2e-4);
    }
  }
  CHECK(formats == 13);
}

namespace {

// Loads bench/shapes/NAME with dummy weights and runs one step of three tokens.
void run_shape(const std::string& name) {
  INFO(name);
  const std::unique_ptr<Backend> backend = reference_backends().back().make();
  LoadOptions options = tiny_options();
  options.path = PELTON_SHAPES "/" + name;
  options.dummy_dtype = DType::kQ8_0;
  options.max_model_len = 64;
  StatusOr<LoadedModel> model = load_model(options, *backend);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  for (const float x : DecoderDriver(*model, *backend).run({1, 2, 3}, 3)) {
    if (!std::isfinite(x)) FAIL("a logit is not finite");
  }
}

}  // namespace

TEST_CASE("Well known small shapes run a step with dummy weights") {
  for (const char* name : {"gpt2", "smollm2-135m"}) run_shape(name);
}

TEST_CASE("Well known shapes up to a billion weights run a step with dummy weights", "[long]") {
  for (const char* name : {"gemma-3-270m", "qwen2.5-0.5b", "qwen3-0.6b", "gemma-3-1b"}) {
    run_shape(name);
  }
}

}  // namespace pelton
