// The kernels that measure ceilings do what they are timed for.
#include "cuda/kernels/ceilings.h"

#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {

TEST_CASE("moved bytes are exact at every length") {
  for (size_t vectors : {0, 1, 255, 1024, 5000}) {
    std::vector<uint32_t> words(vectors * 4);
    for (size_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint32_t>(i * 2654435761U);
    const DeviceArray<uint32_t> from(words), to(words.size()), sink(1);
    MoveBytesParams p;
    p.from = from.data();
    p.to = to.data();
    p.bytes = static_cast<int64_t>(words.size() * 4);
    p.sink = sink.data();
    p.blocks = 3;
    must(move_bytes(p, nullptr));
    CHECK(to.host() == words);
  }
  CHECK(move_bytes(MoveBytesParams{}, nullptr) == cudaErrorInvalidValue);
}

TEST_CASE("the matrix rate kernel ends with a finite sum") {
  const DeviceArray<float> sink(2);
  for (ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    must(mma_rate(type, 2, 2, sink.data(), nullptr));
    for (float sum : sink.host()) CHECK(std::isfinite(sum));
  }
  CHECK(mma_rate_operations(1, 1) == 8 * 8 * 4096);
}

}  // namespace pelton::cuda::test
