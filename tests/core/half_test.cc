#include "core/half.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("every f16 value survives a round trip through f32") {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      REQUIRE(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      REQUIRE(f32_to_f16(value) == bits);
    }
  }
}

TEST_CASE("every bf16 value survives a round trip through f32") {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const float value = bf16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      REQUIRE(std::isnan(bf16_to_f32(f32_to_bf16(value))));
    } else {
      REQUIRE(f32_to_bf16(value) == bits);
    }
  }
}

TEST_CASE("every e4m3 value survives a round trip and values round to the nearest of them") {
  for (uint32_t bits = 0; bits <= 0xFF; ++bits) {
    const float value = f8e4m3_to_f32(static_cast<uint8_t>(bits));
    if (std::isnan(value)) {
      REQUIRE((bits & 0x7F) == 0x7F);
      REQUIRE(std::isnan(f8e4m3_to_f32(f32_to_f8e4m3(value))));
    } else {
      REQUIRE(f32_to_f8e4m3(value) == bits);
    }
  }
  for (uint32_t bits = 0; bits < 0x7E; ++bits) {
    const float low = f8e4m3_to_f32(static_cast<uint8_t>(bits));
    const float high = f8e4m3_to_f32(static_cast<uint8_t>(bits + 1));
    const float middle = 0.5F * (low + high);
    REQUIRE(f32_to_f8e4m3(middle) == bits + (bits & 1));
    REQUIRE(f32_to_f8e4m3(std::nextafter(middle, low)) == bits);
    REQUIRE(f32_to_f8e4m3(std::nextafter(middle, high)) == bits + 1);
  }
  CHECK(f8e4m3_to_f32(0x7E) == 448.0F);
  CHECK(f8e4m3_to_f32(0x01) == 0x1p-9F);
  CHECK(f32_to_f8e4m3(1e9F) == 0x7E);
  CHECK(f32_to_f8e4m3(-std::numeric_limits<float>::infinity()) == 0xFE);
}

TEST_CASE("f16 and bf16 round to nearest and ties to even") {
  CHECK(f16_to_f32(0x3C00) == 1.0F);
  CHECK(f16_to_f32(0x0001) == 0x1p-24F);
  CHECK(f32_to_f16(65504.0F) == 0x7BFF);
  CHECK(f32_to_f16(65519.0F) == 0x7BFF);
  CHECK(f32_to_f16(65520.0F) == 0x7C00);
  CHECK(f32_to_f16(1.0F + 0x1p-11F) == 0x3C00);             // tie: to even
  CHECK(f32_to_f16(1.0F + 0x1p-11F + 0x1p-20F) == 0x3C01);  // above the tie
  CHECK(f32_to_f16(1.0F + 3 * 0x1p-11F) == 0x3C02);
  CHECK(f32_to_f16(0x1p-25F) == 0x0000);
  CHECK(f32_to_f16(0x1.8p-25F) == 0x0001);
  CHECK(f32_to_f16(-std::numeric_limits<float>::infinity()) == 0xFC00);
  CHECK(f32_to_bf16(1.0F + 0x1p-8F) == 0x3F80);
  CHECK(f32_to_bf16(1.0F + 3 * 0x1p-8F) == 0x3F82);
}

}  // namespace pelton
