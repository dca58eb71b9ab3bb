#include "model/rope.h"

#include <cmath>
#include <cstring>

#include "model/formats/gguf.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace pelton {
namespace {

struct Known {
  size_t pair;
  double frequency;
};

// The known values were computed apart, in double precision, from the published formulas.
void check_known(const RopeConfig& rope, const std::vector<Known>& known) {
  const std::vector<float> frequencies = rope_inverse_frequencies(rope, 128);
  REQUIRE(frequencies.size() == 64);
  for (const Known& expected : known) {
    INFO(expected.pair);
    CHECK(frequencies[expected.pair] == Approx(expected.frequency).epsilon(1e-6));
  }
}

RopeConfig llama31() {
  RopeConfig rope;
  rope.theta = 5e5;
  rope.scaling.kind = RopeScalingKind::kLlama3;
  rope.scaling.factor = 8.0;
  rope.scaling.original_max_positions = 8192;
  return rope;
}

}  // namespace

TEST_CASE("plain and linear rope") {
  RopeConfig rope;
  check_known(rope, {{0, 1.0}, {1, 0.8659643233600653}, {32, 0.01}, {63, 1.1547819846894582e-4}});
  rope.scaling.kind = RopeScalingKind::kLinear;
  rope.scaling.factor = 8.0;
  check_known(rope, {{0, 0.125}, {32, 0.00125}});
}

TEST_CASE("llama3 rope keeps short wavelengths and stretches long ones") {
  check_known(llama31(), {{0, 1.0},
                          {1, 0.8146172338565447},
                          {28, 0.003211445994752591},
                          {29, 0.002166570763503359},
                          {31, 0.0008567514129196321},
                          {33, 0.00031269375038406517},
                          {35, 9.556212353964683e-05},
                          {36, 7.78465527393245e-05},
                          {63, 3.068925988914511e-07}});
}

TEST_CASE("yarn rope blends by parts and scales attention") {
  auto config = model_config_from_json(R"({"model_type": "qwen2", "num_hidden_layers": 1,
    "hidden_size": 128, "num_attention_heads": 1, "intermediate_size": 128, "vocab_size": 8,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})");
  REQUIRE(config.ok());
  check_known(config->rope, {{0, 1.0},
                             {20, 0.01333521432163324},
                             {23, 0.006978305848598663},
                             {24, 0.005375321490790102},
                             {30, 0.001064360981247002},
                             {35, 0.0002462584069089387},
                             {39, 6.490394320837029e-05},
                             {40, 4.445698525097307e-05},
                             {63, 3.102344401879299e-07}});
  const RopeSpec spec = rope_spec(config->rope, 128, 4096);
  CHECK(spec.magnitude == Approx(1.138629436111989));
  CHECK(spec.max_positions == 4096);
  CHECK(!spec.interleaved);
}

TEST_CASE("GGUF's rope factors give what llama3's parameters give") {
  const std::vector<float> scaled = rope_inverse_frequencies(llama31(), 16);
  RopeConfig plain;
  plain.theta = 5e5;
  const std::vector<float> unscaled = rope_inverse_frequencies(plain, 16);
  std::vector<float> factors;
  for (size_t i = 0; i < 8; ++i) factors.push_back(unscaled[i] / scaled[i]);

  GgufWriter writer = tiny_gguf("llama");
  writer.add_tensor("rope_freqs.weight", 0, {8}, bytes_of(factors));
  const std::string bytes = writer.bytes();
  auto config = model_config_from_gguf(**GgufFile::parse(as_bytes(bytes)));
  REQUIRE(config.ok());
  const std::vector<float> read = rope_inverse_frequencies(config->rope, 16);
  for (size_t i = 0; i < 8; ++i) CHECK(read[i] == Approx(scaled[i]).epsilon(1e-6));
}

TEST_CASE("rope factors of a wrong size or value are refused") {
  const auto with = [](const std::vector<float>& factors) {
    GgufWriter writer = tiny_gguf("llama");
    writer.add_tensor("rope_freqs.weight", 0, {static_cast<int64_t>(factors.size())},
                      bytes_of(factors));
    const std::string bytes = writer.bytes();
    return model_config_from_gguf(**GgufFile::parse(as_bytes(bytes))).status();
  };
  CHECK(with(std::vector<float>(8, 1.0F)).ok());
  CHECK(error_field(with(std::vector<float>(7, 1.0F))) == "rope_freqs.weight");
  CHECK(error_field(with(std::vector<float>(8, 0.0F))) == "rope_freqs.weight");
  CHECK(error_field(with(std::vector<float>(8, std::nanf("")))) == "rope_freqs.weight");
}

}  // namespace pelton
