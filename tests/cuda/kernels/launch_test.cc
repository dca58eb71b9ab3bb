// What the one way to launch a kernel promises.
#include "cuda/kernels/ceilings.h"
#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {

TEST_CASE("a launch tells its own error and none of a call before it") {
  const DeviceArray<float> sink(1);
  REQUIRE(cudaEventQuery(nullptr) != cudaSuccess);  // stays the last error
  CHECK(mma_rate(ElementType::kBF16, 1, 1, sink.data(), nullptr) == cudaSuccess);
  CHECK(cudaGetLastError() != cudaSuccess);
  must(cudaDeviceSynchronize());
}

}  // namespace pelton::cuda::test
