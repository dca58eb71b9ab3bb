#include "core/random.h"

#include "tests/support/catch.h"

namespace pelton {

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST_CASE("philox4x32 gives the published known answers") {
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) ==
        std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("the extreme words map inside the open unit interval") {
  CHECK(unit_interval(0) > 0.0F);
  CHECK(unit_interval(0xFFFFFFFFU) < 1.0F);
  CHECK(unit_interval(0xFFFFFFFFU) > unit_interval(0xFFFFFDFFU));
}

TEST_CASE(
    "uniform draws stay inside the open unit interval and differ by seed and position and draw") {
  double sum = 0;
  for (uint64_t position = 0; position < 1000000; ++position) {
    const float u = counter_uniform(7, position);
    REQUIRE(u > 0.0F);
    REQUIRE(u < 1.0F);
    sum += u;
  }
  CHECK(sum / 1000000 == Approx(0.5).margin(0.002));
  CHECK(counter_uniform(7, 3) != counter_uniform(8, 3));
  CHECK(counter_uniform(7, 3) != counter_uniform(7, 4));
  CHECK(counter_uniform(7, 3, 0) != counter_uniform(7, 3, 1));
}

}  // namespace pelton
