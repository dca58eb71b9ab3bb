// RMSNorm and LayerNorm against float64.
#include "cuda/kernels/norm.h"

#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {
namespace {

struct NormCase {
  ElementType type = ElementType::kBF16;
  bool remove_mean = false;
  bool residual = false, post = false, pre = true, bias = false;
  int rows = 1, cols = 1;
  int padding = 0;  // elements between rows
  float offset = 0;
};

struct NormResult {
  std::vector<float> out, residual;  // [rows, cols]
};

std::vector<double> reference_row(const NormCase& c, std::vector<double> x, const float* weight,
                                  const float* bias) {
  double mean = 0, squares = 0;
  for (double v : x) mean += v / c.cols;
  if (!c.remove_mean) mean = 0;
  for (double v : x) squares += (v - mean) * (v - mean);
  const double scale = 1.0 / std::sqrt(squares / c.cols + 1e-5);
  for (int i = 0; i < c.cols; ++i) {
    x[i] = (x[i] - mean) * scale * weight[i] + (bias != nullptr ? bias[i] : 0.0F);
  }
  return x;
}

std::vector<float> without_padding(const NormCase& c, const std::vector<float>& rows) {
  std::vector<float> out;
  for (int m = 0; m < c.rows; ++m) {
    const auto* row = rows.data() + static_cast<size_t>(m) * (c.cols + c.padding);
    out.insert(out.end(), row, row + c.cols);
  }
  return out;
}

NormResult run(const NormCase& c, const std::vector<float>& x, const std::vector<float>& r,
               const std::vector<float>& w) {
  const int stride = c.cols + c.padding;
  const DeviceArray<uint16_t> dx(to_elements(c.type, x)), dr(to_elements(c.type, r));
  const DeviceArray<uint16_t> out(to_elements(c.type, x));
  const DeviceArray<float> dw(w);
  NormParams p;
  p.type = c.type;
  p.remove_mean = c.remove_mean;
  p.x = dx.data();
  p.x_stride = p.out_stride = stride;
  if (c.residual) p.residual = dr.data(), p.residual_stride = stride;
  if (c.post) p.post = {dw.data(), c.bias ? dw.data() + c.cols : nullptr};
  if (c.pre) p.pre = {dw.data() + 2 * c.cols, c.bias ? dw.data() + 3 * c.cols : nullptr};
  p.out = out.data();
  p.rows = c.rows;
  p.cols = c.cols;
  must(norm(p, nullptr));
  must(cudaDeviceSynchronize());
  return {without_padding(c, to_floats(c.type, out.host())),
          without_padding(c, to_floats(c.type, dr.host()))};
}

void check_norm(const NormCase& c) {
  const size_t count = static_cast<size_t>(c.rows) * (c.cols + c.padding);
  std::vector<float> x = random_values(count, 1), r = random_values(count, 2);
  for (float& v : x) v += c.offset;
  const std::vector<float> w = random_values(4 * static_cast<size_t>(c.cols), 3);
  const NormResult result = run(c, x, r, w);
  const std::vector<float> seen_x = without_padding(c, as_elements(c.type, x));
  const std::vector<float> seen_r = without_padding(c, as_elements(c.type, r));
  std::vector<double> expected, expected_residual;
  for (size_t at = 0; at < seen_x.size(); at += c.cols) {
    std::vector<double> t(seen_x.begin() + at, seen_x.begin() + at + c.cols);
    if (c.post) t = reference_row(c, t, w.data(), c.bias ? w.data() + c.cols : nullptr);
    for (int i = 0; i < c.cols && c.residual; ++i) t[i] += seen_r[at + i];
    expected_residual.insert(expected_residual.end(), t.begin(), t.end());
    t = reference_row(c, t, w.data() + 2 * c.cols, c.bias ? w.data() + 3 * c.cols : nullptr);
    expected.insert(expected.end(), t.begin(), t.end());
  }
  INFO("type " << static_cast<int>(c.type) << " mean " << c.remove_mean << " residual "
               << c.residual << " post " << c.post << " pre " << c.pre << " bias " << c.bias
               << " rows " << c.rows << " cols " << c.cols << " padding " << c.padding);
  const double tolerance = element_tolerance(c.type);
  if (c.residual) check_close(result.residual, expected_residual, tolerance, 1e-5);
  if (c.pre) check_close(result.out, expected, tolerance, 3e-5);
}

}  // namespace

TEST_CASE("norms agree with float64 in every combination of residual and post-norm") {
  for (ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (int flags = 0; flags < 32; ++flags) {
      NormCase c;
      c.type = type;
      c.remove_mean = (flags & 16) != 0;
      c.residual = (flags & 1) != 0;
      c.post = (flags & 2) != 0;
      c.pre = (flags & 4) != 0;
      c.bias = (flags & 8) != 0;
      if (!c.residual && !c.pre) continue;
      c.rows = 3;
      for (int cols : {8, 33, 576}) {
        c.cols = cols;
        check_norm(c);
      }
    }
  }
}

TEST_CASE("norms agree with float64 at every width of block") {
  for (int cols : {1, 7, 1024, 1032, 2048, 4095, 4096, 8192, 8193, 12288, 16384, 20480, 32768}) {
    NormCase c;
    c.residual = c.post = true;
    c.cols = cols;
    c.remove_mean = cols % 3 == 0;
    check_norm(c);
  }
}

TEST_CASE("norms take rows that lie apart and LayerNorm a large mean") {
  NormCase c;
  c.type = ElementType::kF16;
  c.rows = 5;
  c.cols = 128;
  for (int padding : {8, 3}) {
    c.padding = padding;
    check_norm(c);
  }
  c.remove_mean = true;
  c.offset = 100;
  check_norm(c);
}

TEST_CASE("a row's norm has the same bits alone and among others") {
  NormCase c;
  c.rows = 9;
  c.cols = 2048;
  c.residual = true;
  const size_t count = static_cast<size_t>(c.rows) * c.cols;
  const std::vector<float> x = random_values(count, 1), r = random_values(count, 2);
  const std::vector<float> w = random_values(4 * static_cast<size_t>(c.cols), 3);
  const NormResult all = run(c, x, r, w);
  c.rows = 1;
  const NormResult one = run(c, {x.end() - c.cols, x.end()}, {r.end() - c.cols, r.end()}, w);
  CHECK(one.out == std::vector<float>(all.out.end() - c.cols, all.out.end()));
}

TEST_CASE("a norm refuses what it cannot do and does nothing for no rows") {
  NormParams p;
  CHECK(norm(p, nullptr) == cudaSuccess);
  p.rows = 1;
  CHECK(norm(p, nullptr) == cudaErrorInvalidValue);
  p.cols = kMaxNormCols + 1;
  CHECK(norm(p, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
