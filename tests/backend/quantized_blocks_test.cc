#include "backend/quantized_blocks.h"
#include "core/half.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/random.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

std::vector<float> normal_values(int n, uint64_t seed) {
  std::vector<float> out(n);
  for (int i = 0; i < n; ++i) {
    const float radius = std::sqrt(-2.0F * std::log(counter_uniform(seed, i, 0)));
    out[i] = radius * std::cos(6.2831853F * counter_uniform(seed, i, 1));
  }
  return out;
}

double relative_rms_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    norm += a[i] * a[i];
  }
  return std::sqrt(error / norm);
}

std::vector<char> read_golden(const std::string& name) {
  std::ifstream file(std::string(PELTON_GOLDENS_DIR "/quant/") + name, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_CASE("dequantisation gives the bits of the gguf package for random and real blocks") {
  const std::vector<char> index_text = read_golden("index.json");
  int formats = 0;
  for (const auto& entry : nlohmann::json::parse(index_text.begin(), index_text.end())) {
    std::string name = entry["type"];
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    INFO(name);
    const std::optional<DType> dtype = dtype_from_name(name);
    REQUIRE(dtype.has_value());
    const int64_t elements = entry["rows"].get<int64_t>() * entry["columns"].get<int64_t>();
    const std::vector<char> blocks = read_golden(entry["blocks"]);
    const std::vector<char> expected = read_golden(entry["values"]);
    REQUIRE(static_cast<int64_t>(blocks.size()) == dtype_bytes(*dtype, elements));
    REQUIRE(expected.size() == elements * sizeof(float));
    std::vector<float> values(elements), golden(elements);
    std::memcpy(golden.data(), expected.data(), expected.size());
    dequantize(*dtype, blocks.data(), elements, values.data());
    int different = 0;
    for (int64_t i = 0; i < elements; ++i) {
      different += std::memcmp(&values[i], &golden[i], sizeof(float)) != 0;
    }
    CHECK(different == 0);
    ++formats;
  }
  REQUIRE(formats == 10);
}

TEST_CASE("every half survives the way to float and back") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      REQUIRE(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      REQUIRE(f32_to_f16(value) == bits);
    }
  }
}

TEST_CASE("halves and bfloat16 round to nearest with ties to even") {
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = f16_to_f32(static_cast<uint16_t>(bits));
    const float high = f16_to_f32(static_cast<uint16_t>(bits + 1));
    const float middle = 0.5F * (low + high);
    REQUIRE(f32_to_f16(middle) == bits + (bits & 1));
    REQUIRE(f32_to_f16(std::nextafter(middle, low)) == bits);
    REQUIRE(f32_to_f16(std::nextafter(middle, high)) == bits + 1);
  }
  REQUIRE(f32_to_f16(65519.0F) == 0x7BFF);
  REQUIRE(f32_to_f16(65520.0F) == 0x7C00);
  REQUIRE(f32_to_bf16(1.00390625F) == 0x3F80);  // half a step above one: to even
  REQUIRE(f32_to_bf16(1.01171875F) == 0x3F82);
  REQUIRE(std::isnan(bf16_to_f32(f32_to_bf16(std::nanf("")))));
}

TEST_CASE("quantising and back stays within what each format can hold") {
  const std::vector<float> x = normal_values(8192, 7);
  struct Case {
    DType dtype;
    double bound;
  };
  for (const Case& c :
       {Case{DType::kF32, 0}, Case{DType::kF16, 3e-4}, Case{DType::kBF16, 2.5e-3},
        Case{DType::kQ8_0, 0.008}, Case{DType::kQ4_0, 0.1}, Case{DType::kQ4_1, 0.09},
        Case{DType::kQ5_0, 0.05}, Case{DType::kQ5_1, 0.045}, Case{DType::kQ4_K, 0.09},
        Case{DType::kQ5_K, 0.05}, Case{DType::kQ6_K, 0.025}, Case{DType::kF8_128, 0.03},
        Case{DType::kI4_128, 0.12}}) {
    std::vector<std::byte> blocks(dtype_bytes(c.dtype, 8192));
    std::vector<float> back(8192);
    quantize(c.dtype, x, blocks.data());
    dequantize(c.dtype, blocks.data(), 8192, back.data());
    INFO(dtype_info(c.dtype).name);
    CHECK(relative_rms_error(x, back) <= c.bound);
  }
}

TEST_CASE("block structs have the sizes of the file format") {
  STATIC_REQUIRE(sizeof(BlockQ8_0) == 34);
  STATIC_REQUIRE(sizeof(BlockQ4_0) == 18);
  STATIC_REQUIRE(sizeof(BlockQ4_1) == 20);
  STATIC_REQUIRE(sizeof(BlockQ5_0) == 22);
  STATIC_REQUIRE(sizeof(BlockQ5_1) == 24);
  STATIC_REQUIRE(sizeof(BlockQ4_K) == 144);
  STATIC_REQUIRE(sizeof(BlockQ5_K) == 176);
  STATIC_REQUIRE(sizeof(BlockQ6_K) == 210);
  STATIC_REQUIRE(sizeof(BlockF8_128) == 132);
  STATIC_REQUIRE(sizeof(BlockI4_128) == 68);
}

}  // namespace pelton
