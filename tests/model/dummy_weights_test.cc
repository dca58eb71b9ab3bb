#include <cmath>
#include <numeric>

#include "backend/quantized_blocks.h"
#include "model/model_files.h"
#include "model/weight_source.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace pelton {
namespace {

std::vector<float> dequantised(const WeightTensor& tensor) {
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes()));
  tensor.read_rows(0, tensor.rows(), bytes.data());
  std::vector<float> out(static_cast<size_t>(tensor.rows() * tensor.cols()));
  dequantize(tensor.dtype(), bytes.data(), tensor.rows() * tensor.cols(), out.data());
  return out;
}

ModelConfig wide_config() {
  ModelConfig config = tiny_config("llama");
  config.hidden_size = 512;
  config.intermediate_size = 1024;
  config.head_dim = 128;
  return config;
}

}  // namespace

TEST_CASE("dummy weights of every dtype are finite and centred and keep a product's scale") {
  const DType dtype = GENERATE(DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                               DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K,
                               DType::kQ6_K, DType::kF8_128, DType::kI4_128);
  INFO(dtype_info(dtype).name);
  auto source = dummy_weights(wide_config(), dtype, 7);
  REQUIRE(source.ok());
  const WeightTensor* up = (*source)->find(TensorRole::kUp, 1);
  CHECK(up->dtype() == dtype);
  const std::vector<float> weights = dequantised(*up);
  double sum = 0;
  double squares = 0;
  for (const float weight : weights) {
    REQUIRE(std::isfinite(weight));
    sum += weight;
    squares += static_cast<double>(weight) * weight;
  }
  const double mean = sum / static_cast<double>(weights.size());
  const double deviation = std::sqrt(squares / static_cast<double>(weights.size()));
  const double unit = 1.0 / std::sqrt(512.0);  // keeps the variance of a product over 512 inputs
  CHECK(deviation > 0.3 * unit);
  CHECK(deviation < 1.5 * unit);
  CHECK(std::abs(mean) < 0.15 * unit);
}

TEST_CASE("dummy weights depend on seed and tensor and row alone") {
  const ModelConfig config = wide_config();
  auto a = *dummy_weights(config, DType::kQ4_K, 7);
  auto b = *dummy_weights(config, DType::kQ4_K, 7);
  auto c = *dummy_weights(config, DType::kQ4_K, 8);
  const std::vector<float> up = dequantised(*a->find(TensorRole::kUp, 1));
  CHECK(up == dequantised(*b->find(TensorRole::kUp, 1)));
  CHECK(up != dequantised(*c->find(TensorRole::kUp, 1)));
  CHECK(up != dequantised(*a->find(TensorRole::kUp, 0)));
  CHECK(up != dequantised(*a->find(TensorRole::kGate, 1)));
  const WeightTensor* tensor = a->find(TensorRole::kUp, 1);
  std::vector<std::byte> row(static_cast<size_t>(tensor->row_bytes()));
  tensor->read_rows(5, 6, row.data());
  std::vector<float> fifth(512);
  dequantize(tensor->dtype(), row.data(), 512, fifth.data());
  CHECK(std::equal(fifth.begin(), fifth.end(), up.begin() + 5 * 512));
  CHECK(tensor->mapped() == nullptr);
}

TEST_CASE("dummy vectors are F32 and norms stand near 1") {
  auto source = *dummy_weights(tiny_config("gpt2"), DType::kQ8_0, 0);
  for (const float weight : read_vector(*source->find(TensorRole::kAttnNorm, 0))) {
    CHECK(std::abs(weight - 1.0F) <= 0.1F);
  }
  for (const float weight : read_vector(*source->find(TensorRole::kQBias, 1))) {
    CHECK(std::abs(weight) <= 0.1F);
  }
}

TEST_CASE("a matrix that is no whole number of blocks takes the nearest format that fits") {
  ModelConfig config = tiny_config("llama");  // hidden 64
  const auto format = [&](DType dtype) {
    return (*dummy_weights(config, dtype, 0))->find(TensorRole::kUp, 0)->dtype();
  };
  CHECK(format(DType::kQ4_K) == DType::kQ5_0);
  CHECK(format(DType::kQ5_K) == DType::kQ5_1);
  CHECK(format(DType::kQ6_K) == DType::kQ8_0);
  CHECK(format(DType::kQ4_1) == DType::kQ4_1);
  config.hidden_size = 72;
  CHECK(format(DType::kQ8_0) == DType::kF16);
  CHECK(format(DType::kQ4_K) == DType::kF16);
  CHECK(dummy_weights(config, DType::kI8, 0).status().code() == absl::StatusCode::kUnimplemented);
}

TEST_CASE("dummy models of the shapes open in no time and no memory") {
  for (const std::string name : {"llama-3.1-70b", "gpt-3-175b"}) {
    INFO(name);
    ModelFilesOptions options;
    options.load_format = LoadFormat::kDummy;
    options.dummy_dtype = DType::kQ4_K;
    auto files = open_model_files(PELTON_SOURCE_DIR "/bench/shapes/" + name, options);
    REQUIRE(files.ok());
    CHECK(files->weights->total_bytes() > int64_t{30} << 30);
    const WeightTensor* tensor = files->weights->find(TensorRole::kDown, 79);
    std::vector<std::byte> row(static_cast<size_t>(tensor->row_bytes()));
    tensor->read_rows(tensor->rows() - 1, tensor->rows(), row.data());
  }
}

TEST_CASE("the wrong kind of path is a typed error") {
  CHECK(open_model_files("/nowhere", {}).status().code() == absl::StatusCode::kNotFound);
  CHECK(open_model_files("/dev/null", {}).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace pelton
