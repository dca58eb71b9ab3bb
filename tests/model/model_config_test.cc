#include "model/model_config.h"

#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "model/architecture.h"
#include "model/formats/gguf.h"
#include "model/formats/json.h"
#include "model/formats/mapped_file.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace pelton {
namespace {

using nlohmann::json;

// The tiny llama's config with changes applied.
StatusOr<ModelConfig> changed(const std::string& architecture,
                              const std::function<void(json&)>& change) {
  json config = json::parse(tiny_config_json(architecture));
  change(config);
  return model_config_from_json(config.dump());
}

void check_error(const StatusOr<ModelConfig>& result, absl::StatusCode code,
                 const std::string& field) {
  INFO(std::string(result.status().message()));
  CHECK(result.status().code() == code);
  CHECK(error_field(result.status()).value_or("") == field);
}

void check_invalid(const std::string& architecture, const std::string& field, const json& value) {
  INFO(field << " = " << value.dump());
  check_error(changed(architecture, [&](json& config) { config[field] = value; }),
              absl::StatusCode::kInvalidArgument, field);
}

void check_unsupported(const std::string& architecture, const std::string& field,
                       const json& value) {
  INFO(field << " = " << value.dump());
  check_error(changed(architecture, [&](json& config) { config[field] = value; }),
              absl::StatusCode::kUnimplemented, field);
}

}  // namespace

TEST_CASE("every architecture reads the same config from both formats") {
  for (const Architecture& row : architectures()) {
    const std::string name(row.name);
    INFO(name);
    const std::string bytes = tiny_gguf(name).bytes();
    auto file = GgufFile::parse(as_bytes(bytes));
    REQUIRE(file.ok());
    auto gguf = model_config_from_gguf(**file);
    REQUIRE(gguf.ok());
    ModelConfig hf = tiny_config(name);
    CHECK(gguf->architecture == hf.architecture);
    CHECK(gguf->num_layers == hf.num_layers);
    CHECK(gguf->hidden_size == hf.hidden_size);
    CHECK(gguf->num_heads == hf.num_heads);
    CHECK(gguf->num_kv_heads == hf.num_kv_heads);
    CHECK(gguf->head_dim == hf.head_dim);
    CHECK(gguf->intermediate_size == hf.intermediate_size);
    CHECK(gguf->vocab_size == hf.vocab_size);
    CHECK(gguf->max_positions == hf.max_positions);
    CHECK(gguf->norm_eps == hf.norm_eps);
    CHECK(gguf->activation == hf.activation);
    CHECK(gguf->rope.theta == hf.rope.theta);
    CHECK(gguf->local_rope.theta == hf.local_rope.theta);
    CHECK(gguf->sliding_window == hf.sliding_window);
    CHECK(gguf->window_layer == hf.window_layer);
    CHECK(gguf->attention_scale == hf.attention_scale);
    CHECK(gguf->embedding_scale == hf.embedding_scale);
    CHECK(gguf->tie_embeddings == hf.tie_embeddings);
    CHECK(gguf->qkv_bias == hf.qkv_bias);
    CHECK(gguf->o_bias == hf.o_bias);
    CHECK(gguf->mlp_bias == hf.mlp_bias);
    if (name != "gpt2") CHECK(gguf->eos_ids == hf.eos_ids);
  }
}

TEST_CASE("every config of bench/shapes is read") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(PELTON_SOURCE_DIR "/bench/shapes")) {
    INFO(entry.path().string());
    auto text = read_small_file((entry.path() / "config.json").string(), 1 << 20);
    REQUIRE(text.ok());
    auto config = model_config_from_json(*text);
    CHECK(config.ok());
    ++count;
  }
  CHECK(count >= 9);
}

TEST_CASE("gemma3's nested config takes the family's defaults") {
  auto config = model_config_from_json(R"({
    "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
    "eos_token_id": [1, 106], "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152},
    "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
      "num_hidden_layers": 34, "sliding_window": 1024,
      "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}})");
  REQUIRE(config.ok());
  CHECK(config->num_heads == 8);
  CHECK(config->num_kv_heads == 4);
  CHECK(config->head_dim == 256);
  CHECK(config->vocab_size == 262208);
  CHECK(config->tie_embeddings);
  CHECK(config->eos_ids == std::vector<TokenId>{1, 106});
  CHECK(config->sliding_window == 1024);
  CHECK(config->layer_window(0) == 1024);
  CHECK(config->layer_window(5) == 0);
  CHECK(config->rope.theta == 1e6);
  CHECK(config->rope.scaling.kind == RopeScalingKind::kLinear);
  CHECK(config->local_rope.theta == 1e4);
  CHECK(config->local_rope.scaling.kind == RopeScalingKind::kNone);
  CHECK(config->activation == Activation::kGeluTanh);
  CHECK(config->embedding_scale == Approx(50.5964));
  CHECK(config->dtype == DType::kBF16);
}

TEST_CASE("newer files' rope_parameters and layer_types are read") {
  auto config = changed("gemma3", [](json& c) {
    c.erase("rope_theta");
    c.erase("sliding_window_pattern");
    c["layer_types"] = {"full_attention", "sliding_attention"};
    c["dtype"] = "float16";
    c["rope_parameters"] = {
        {"full_attention", {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 2e6}}},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 3e4}}}};
  });
  REQUIRE(config.ok());
  CHECK(config->window_layer == std::vector<uint8_t>{0, 1});
  CHECK(config->rope.theta == 2e6);
  CHECK(config->rope.scaling.factor == 4.0);
  CHECK(config->local_rope.theta == 3e4);
  CHECK(config->dtype == DType::kF16);
  auto flat = changed("llama", [](json& c) {
    c.erase("rope_theta");
    c["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7e5}};
  });
  REQUIRE(flat.ok());
  CHECK(flat->rope.theta == 7e5);
}

TEST_CASE("windows follow each family's own rule") {
  // llama knows none, whatever its file says; mistral's is on every layer.
  CHECK(tiny_config("llama").sliding_window == 0);
  auto mistral = changed("llama", [](json& c) {
    c["model_type"] = "mistral";
    c["architectures"] = {"MistralForCausalLM"};
  });
  REQUIRE(mistral.ok());
  CHECK(mistral->sliding_window == 32);
  CHECK(mistral->window_layer == std::vector<uint8_t>{1, 1});
  CHECK(tiny_config("qwen2").sliding_window == 0);
  auto qwen = changed("qwen2", [](json& c) {
    c["use_sliding_window"] = true;
    c["max_window_layers"] = 1;
  });
  REQUIRE(qwen.ok());
  CHECK(qwen->window_layer == std::vector<uint8_t>{0, 1});
  check_error(changed("gemma3", [](json& c) { c["layer_types"] = {"full_attention"}; }),
              absl::StatusCode::kInvalidArgument, "layer_types");
  check_unsupported("gemma3", "layer_types", {"full_attention", "chunked_attention"});
}

TEST_CASE("eos ids are the union of config and generation_config within the vocabulary") {
  auto config = model_config_from_json(tiny_config_json("llama"),
                                       R"({"eos_token_id": [7, 3], "bos_token_id": 0})");
  REQUIRE(config.ok());
  CHECK(config->eos_ids == std::vector<TokenId>{1, 3, 7});
  CHECK(tiny_config("gpt2").eos_ids.empty());  // 50256 of 96 tokens
  CHECK(!model_config_from_json(tiny_config_json("llama"), "{").ok());
  CHECK(!model_config_from_json(tiny_config_json("llama"), R"({"eos_token_id": "x"})").ok());
}

TEST_CASE("a config field out of its bounds is an error that names it") {
  check_invalid("llama", "num_hidden_layers", 0);
  check_invalid("llama", "num_hidden_layers", 1025);
  check_invalid("llama", "num_hidden_layers", "two");
  check_invalid("llama", "num_hidden_layers", 2.5);
  check_invalid("llama", "num_hidden_layers", nullptr);
  check_invalid("llama", "hidden_size", 65537);
  check_invalid("llama", "hidden_size", -64);
  check_invalid("llama", "num_attention_heads", 5000);
  check_invalid("llama", "num_key_value_heads", 3);
  check_invalid("llama", "head_dim", 15);
  check_invalid("llama", "head_dim", 514);
  check_invalid("llama", "intermediate_size", int64_t{1} << 40);
  check_invalid("llama", "vocab_size", (1 << 20) + 1);
  check_invalid("llama", "vocab_size", 18446744073709551615ULL);
  check_invalid("llama", "max_position_embeddings", 0);
  check_invalid("llama", "rms_norm_eps", 0);
  check_invalid("llama", "rms_norm_eps", "1e-6");
  check_invalid("llama", "rope_theta", 0);
  check_invalid("llama", "rope_theta", 1e300);
  check_invalid("llama", "tie_word_embeddings", 1);
  check_invalid("llama", "eos_token_id", -1);
  check_invalid("llama", "eos_token_id", std::vector<int>(65, 1));
  check_invalid("llama", "bos_token_id", "x");
  check_invalid("gemma3", "sliding_window", -1);
  check_invalid("gemma3", "query_pre_attn_scalar", 0);
  check_invalid("gemma3", "final_logit_softcapping", -30);
  check_invalid("gpt2", "n_embd", 0);
  check_error(changed("llama",
                      [](json& c) {
                        c["rope_scaling"] = {{"type", "linear"}};
                      }),
              absl::StatusCode::kInvalidArgument, "rope_scaling.factor");
  check_error(changed("llama",
                      [](json& c) {
                        c["rope_scaling"] = {{"rope_type", "llama3"},
                                             {"factor", 8.0},
                                             {"low_freq_factor", 4.0},
                                             {"high_freq_factor", 4.0},
                                             {"original_max_position_embeddings", 8192}};
                      }),
              absl::StatusCode::kInvalidArgument, "rope_scaling.high_freq_factor");
  check_invalid("llama", "rope_scaling", 3);
}

TEST_CASE("what is not supported is refused by the field's name") {
  check_unsupported("llama", "model_type", "mixtral");
  check_unsupported("llama", "architectures", {"LlamaForSequenceClassification"});
  check_unsupported("llama", "quantization_config", {{"quant_method", "awq"}});
  check_unsupported("llama", "num_local_experts", 8);
  check_unsupported("llama", "partial_rotary_factor", 0.5);
  check_unsupported("llama", "hidden_act", "xielu");
  check_unsupported("llama", "torch_dtype", "float8_e4m3fn");
  check_unsupported("gemma3", "use_bidirectional_attention", true);
  check_unsupported("gpt2", "scale_attn_by_inverse_layer_idx", true);
  check_unsupported("gpt2", "add_cross_attention", true);
  check_error(changed("llama",
                      [](json& c) {
                        c["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", 2}};
                      }),
              absl::StatusCode::kUnimplemented, "rope_scaling.rope_type");
}

TEST_CASE("what GGUF metadata lacks or exceeds is an error that names the key") {
  const auto with = [](const std::function<void(GgufWriter&)>& change) {
    GgufWriter writer;
    writer.add_string("general.architecture", "llama");
    change(writer);
    const std::string bytes = writer.bytes();
    return model_config_from_gguf(**GgufFile::parse(as_bytes(bytes)));
  };
  check_error(with([](GgufWriter&) {}), absl::StatusCode::kInvalidArgument, "llama.block_count");
  check_error(with([](GgufWriter& w) { w.add_u32("llama.block_count", 2000); }),
              absl::StatusCode::kInvalidArgument, "llama.block_count");
  check_error(with([](GgufWriter& w) { w.add_string("llama.block_count", "2"); }),
              absl::StatusCode::kInvalidArgument, "llama.block_count");
  check_error(with([](GgufWriter& w) { w.add_u32("llama.expert_count", 8); }),
              absl::StatusCode::kUnimplemented, "llama.expert_count");
  check_error(with([](GgufWriter& w) { w.add_u32("split.count", 3); }),
              absl::StatusCode::kUnimplemented, "split.count");
  check_error(with([](GgufWriter& w) { w.add_string("general.type", "adapter"); }),
              absl::StatusCode::kUnimplemented, "general.type");
  GgufWriter other;
  other.add_string("general.architecture", "mamba");
  const std::string bytes = other.bytes();
  check_error(model_config_from_gguf(**GgufFile::parse(as_bytes(bytes))),
              absl::StatusCode::kUnimplemented, "general.architecture");
}

TEST_CASE("a GGUF end-of-turn token ends answers though no key names it") {
  const std::string bytes = tiny_gguf("llama", {"<unk>", "</s>", "x", "y", "<|im_end|>"}).bytes();
  auto config = model_config_from_gguf(**GgufFile::parse(as_bytes(bytes)));
  REQUIRE(config.ok());
  CHECK(config->eos_ids == std::vector<TokenId>{1, 3, 4});
}

TEST_CASE("more tokens than embeddings are refused") {
  const std::string bytes = tiny_gguf("llama", std::vector<std::string>(97, "x")).bytes();
  check_error(model_config_from_gguf(**GgufFile::parse(as_bytes(bytes))),
              absl::StatusCode::kInvalidArgument, "tokenizer.ggml.tokens");
}

}  // namespace pelton
