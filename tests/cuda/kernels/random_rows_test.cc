// Dummy weights of the card against the host's, byte for byte.
#include "cuda/kernels/random_rows.h"

#include "backend/random_blocks.h"
#include "tests/cuda/kernels/linear_support.h"

namespace pelton::cuda::test {

TEST_CASE("The card makes the host's dummy weights to the byte in every format") {
  constexpr int kRows = 7, kCols = 512, kBegin = 3;
  constexpr uint64_t kSeed = 0xFEEDFACE12345678ULL;
  for (const PackedFormat& f : packed_formats()) {
    for (const float amplitude : {0.05F, 0.3061862F}) {
      const auto row_bytes = static_cast<size_t>(dtype_bytes(f.dtype, kCols));
      std::vector<uint8_t> expected(kRows * row_bytes);
      for (int row = 0; row < kRows; ++row) {
        SplitMix64 random = row_stream(kSeed, kBegin + row);
        random_elements(f.dtype, kCols, amplitude, random,
                        reinterpret_cast<std::byte*>(expected.data() + row * row_bytes));
      }
      const DeviceArray<uint8_t> rows(expected.size());
      RandomRowsParams p;
      p.format = f.format;
      p.source = packed_source(f.dtype);
      p.seed = kSeed;
      p.amplitude = amplitude;
      p.row_begin = kBegin;
      p.num_rows = kRows;
      p.k = kCols;
      p.rows = rows.data();
      must(random_rows(p, nullptr));
      must(cudaDeviceSynchronize());
      INFO(dtype_info(f.dtype).name);
      CHECK(rows.host() == expected);
    }
  }
}

}  // namespace pelton::cuda::test
