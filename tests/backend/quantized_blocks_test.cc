#include "backend/quantized_blocks.h"

#include <cmath>
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

}  // namespace

TEST_CASE("every half survives the way to float and back") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = half_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      REQUIRE(std::isnan(half_to_float(float_to_half(value))));
    } else {
      REQUIRE(float_to_half(value) == bits);
    }
  }
}

TEST_CASE("halves and bfloat16 round to nearest with ties to even") {
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = half_to_float(static_cast<uint16_t>(bits));
    const float high = half_to_float(static_cast<uint16_t>(bits + 1));
    const float middle = 0.5F * (low + high);
    REQUIRE(float_to_half(middle) == bits + (bits & 1));
    REQUIRE(float_to_half(std::nextafter(middle, low)) == bits);
    REQUIRE(float_to_half(std::nextafter(middle, high)) == bits + 1);
  }
  REQUIRE(float_to_half(65519.0F) == 0x7BFF);
  REQUIRE(float_to_half(65520.0F) == 0x7C00);
  REQUIRE(float_to_bfloat16(1.00390625F) == 0x3F80);  // half a step above one: to even
  REQUIRE(float_to_bfloat16(1.01171875F) == 0x3F82);
  REQUIRE(std::isnan(bfloat16_to_float(float_to_bfloat16(std::nanf("")))));
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
        Case{DType::kQ5_K, 0.05}, Case{DType::kQ6_K, 0.025}}) {
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
}

}  // namespace pelton
