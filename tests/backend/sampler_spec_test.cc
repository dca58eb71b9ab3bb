#include "backend/sampler_spec.h"

#include <limits>

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("sampler_exp lies within two units in the last place of the exponential") {
  for (int i = 0; i <= 870000; ++i) {
    const float z = -static_cast<float>(i) * 1e-4F;
    const double exact = std::exp(static_cast<double>(z));
    REQUIRE(std::fabs(sampler_exp(z) - exact) <= 2.4e-7 * exact);
  }
}

TEST_CASE("sampler weights are one at the maximum, monotone, and zero far below it") {
  REQUIRE(sampler_weight(0.0F) == kSamplerOne);
  REQUIRE(sampler_weight(-std::numeric_limits<float>::infinity()) == 0);
  REQUIRE(sampler_weight(-22.0F) == 0);
  REQUIRE(sampler_weight(-20.0F) > 0);
  REQUIRE(std::isnan(sampler_exp(std::numeric_limits<float>::quiet_NaN())));
  uint32_t last = kSamplerOne;
  for (float z = 0; z > -23; z -= 0.01F) {
    REQUIRE(sampler_weight(z) <= last);
    last = sampler_weight(z);
  }
}

}  // namespace pelton
