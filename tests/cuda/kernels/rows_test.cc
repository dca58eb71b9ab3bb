// Row gathers and block copies move exact bytes; pooling agrees with float64.
#include "cuda/kernels/rows.h"

#include <numeric>

#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {
namespace {

std::vector<uint8_t> pattern(size_t bytes) {
  std::vector<uint8_t> out(bytes);
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<uint8_t>(i * 31 + i / 251);
  return out;
}

void check_pool(ElementType type, PoolingKind kind, bool normalize, int cols) {
  const std::vector<int32_t> starts = {0, 1, 8, 8, 10};  // one is empty
  const std::vector<float> x = random_values(static_cast<size_t>(10) * cols, 5);
  const std::vector<float> seen = as_elements(type, x);
  const DeviceArray<uint16_t> dx(to_elements(type, x));
  const DeviceArray<int32_t> dstarts(starts);
  const DeviceArray<float> out(static_cast<size_t>(4) * cols);
  PoolParams p;
  p.type = type;
  p.kind = kind;
  p.normalize = normalize;
  p.x = dx.data();
  p.x_stride = p.out_stride = p.cols = cols;
  p.starts = dstarts.data();
  p.out = out.data();
  p.sequences = 4;
  must(pool(p, nullptr));
  std::vector<double> expected;
  for (int s = 0; s < 4; ++s) {
    const int begin = starts[s], end = starts[s + 1];
    std::vector<double> row(cols);
    for (int i = 0; i < cols && begin < end; ++i) {
      if (kind == PoolingKind::kFirst) row[i] = seen[begin * cols + i];
      if (kind == PoolingKind::kLast) row[i] = seen[(end - 1) * cols + i];
      for (int m = begin; m < end && kind == PoolingKind::kMean; ++m) {
        row[i] += double{seen[m * cols + i]} / (end - begin);
      }
    }
    const double length = std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0));
    for (double v : row) expected.push_back(normalize && length > 0 ? v / length : v);
  }
  check_close(out.host(), expected, 1e-5, 1e-6);
}

}  // namespace

TEST_CASE("gathered rows are exact at every width") {
  for (int64_t row_bytes : {16, 1152, 38, 7, 1}) {
    const int x_rows = 9;
    const int64_t stride = row_bytes + (row_bytes % 16 == 0 ? 16 : 1);
    const std::vector<uint8_t> bytes = pattern(x_rows * stride);
    const std::vector<int32_t> index = {3, 0, 8, 8, 5};
    const DeviceArray<uint8_t> x(bytes);
    const DeviceArray<int32_t> dindex(index);
    const DeviceArray<uint8_t> out(index.size() * row_bytes);
    GatherRowsParams p;
    p.x = x.data();
    p.x_stride_bytes = stride;
    p.index = dindex.data();
    p.out = out.data();
    p.out_stride_bytes = p.row_bytes = row_bytes;
    p.rows = static_cast<int>(index.size());
    must(gather_rows(p, nullptr));
    std::vector<uint8_t> expected;
    for (int32_t i : index) {
      expected.insert(expected.end(), bytes.begin() + i * stride,
                      bytes.begin() + i * stride + row_bytes);
    }
    CHECK(out.host() == expected);
  }
}

TEST_CASE("copied blocks are exact and the others untouched") {
  for (int64_t block_bytes : {16, 4096, 32768 + 48}) {
    std::vector<uint8_t> bytes = pattern(6 * block_bytes);
    const DeviceArray<uint8_t> cache(bytes);
    const DeviceArray<int32_t> pairs(std::vector<int32_t>{1, 4, 0, 5, 1, 2});
    CopyBlocksParams p;
    p.cache = cache.data();
    p.block_bytes = block_bytes;
    p.pairs = pairs.data();
    p.num_pairs = 3;
    must(copy_blocks(p, nullptr));
    const auto block = [&](int i) { return bytes.begin() + i * block_bytes; };
    std::copy_n(block(1), block_bytes, block(4));
    std::copy_n(block(0), block_bytes, block(5));
    std::copy_n(block(1), block_bytes, block(2));
    CHECK(cache.host() == bytes);
  }
}

TEST_CASE("pooling agrees with float64 and an empty sequence gives zeros") {
  for (ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (PoolingKind kind : {PoolingKind::kMean, PoolingKind::kFirst, PoolingKind::kLast}) {
      for (bool normalize : {false, true}) {
        check_pool(type, kind, normalize, 37);
        check_pool(type, kind, normalize, 768);
      }
    }
  }
}

TEST_CASE("moving rows refuses sizes that are none") {
  CopyBlocksParams p;
  CHECK(copy_blocks(p, nullptr) == cudaSuccess);
  p.block_bytes = 24;
  CHECK(copy_blocks(p, nullptr) == cudaErrorInvalidValue);
  GatherRowsParams g;
  CHECK(gather_rows(g, nullptr) == cudaSuccess);
  g.rows = -1;
  CHECK(gather_rows(g, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
