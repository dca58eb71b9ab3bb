#include "core/dtype.h"

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("every dtype name maps back to its dtype") {
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    CHECK(dtype_from_name(dtype_info(dtype).name) == dtype);
  }
  CHECK(dtype_from_name("q3_k") == std::nullopt);
}

TEST_CASE("quantised sizes are whole blocks") {
  CHECK(dtype_bytes(DType::kQ4_1, 576) == 18 * 20);
  CHECK(dtype_bytes(DType::kQ6_K, 512) == 420);
  CHECK(dtype_bytes(DType::kBF16, 3) == 6);
}

}  // namespace pelton
