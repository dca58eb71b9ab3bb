// The operands of a library's fp8 product against what they are made from.
#include "cuda/kernels/fp8_rows.h"

#include <cuda_fp8.h>

#include "backend/quantized_blocks.h"
#include "tests/cuda/kernels/linear_support.h"

namespace pelton::cuda::test {
namespace {

double code_value(uint8_t code) {
  return static_cast<double>(__half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3))));
}

}  // namespace

TEST_CASE("fp8 weights come out of their fragments as they went in") {
  for (const auto& [n, k] : {std::pair{16, 128}, {48, 384}, {21, 256}, {160, 1024}}) {
    const PackedWeights w({WeightFormat::kF8_128, DType::kF8_128}, ElementType::kBF16, n, k, 7);
    const DeviceArray<uint8_t> codes(static_cast<size_t>(n) * k);
    const DeviceArray<float> scales(static_cast<size_t>(n) * (k / kFp8Group));
    must(unpack_fp8({w.packed.data(), codes.data(), scales.data(), n, k}, nullptr));
    must(cudaDeviceSynchronize());
    const std::vector<uint8_t> rows = codes.host();
    const std::vector<float> d = scales.host();
    int wrong = 0;
    for (int r = 0; r < n; ++r) {
      for (int c = 0; c < k; ++c) {
        const auto at = static_cast<size_t>(r) * k + c;
        const float value = static_cast<float>(code_value(rows[at])) * d[c / kFp8Group * n + r];
        wrong += value != w.values[at];
      }
    }
    INFO(n << " x " << k);
    CHECK(wrong == 0);
  }
}

TEST_CASE("Rows are rounded to fp8 with a scale for each 128") {
  for (const ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (const auto& [rows, k] : {std::pair{1, 128}, {3, 512}, {37, 256}}) {
      const int stride = k + 8;
      std::vector<float> x(static_cast<size_t>(rows) * stride, NAN);
      const std::vector<float> values =
          as_elements(type, random_values(static_cast<size_t>(rows) * k, 11));
      for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < k; ++c) x[r * stride + c] = values[r * k + c] * (c < 128 ? 1 : 30);
      }
      for (int c = 0; c < 128; ++c) x[(rows - 1) * stride + c] = 0;  // a group of zeros
      x = as_elements(type, x);
      const DeviceArray<uint16_t> device(to_elements(type, x));
      const DeviceArray<uint8_t> codes(static_cast<size_t>(rows) * k);
      const DeviceArray<float> scales(static_cast<size_t>(rows) * (k / kFp8Group));
      must(quantize_fp8({type, device.data(), stride, codes.data(), scales.data(), rows, k},
                        nullptr));
      must(cudaDeviceSynchronize());
      const std::vector<uint8_t> q = codes.host();
      const std::vector<float> d = scales.host();
      double worst = 0;
      for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < k; ++c) {
          const double scale = d[c / kFp8Group * rows + r], wanted = x[r * stride + c];
          const double got = code_value(q[r * k + c]) * scale;
          // Half of the last of four significant bits; below 2^-6 of the scale steps are 2^-9.
          const double allowed = std::max(std::abs(wanted) / 16, scale * 0x1p-10);
          worst = std::max(worst, std::abs(got - wanted) / allowed);
        }
        float largest = 0;
        for (int c = 0; c < 128; ++c) largest = std::max(largest, std::abs(x[r * stride + c]));
        CHECK(d[r] == (largest > 0 ? Approx(largest / 448) : Approx(1)));
      }
      CHECK(worst <= 1.001);
    }
  }
}

TEST_CASE("Shapes that fp8 products do not have are refused") {
  CHECK(unpack_fp8({nullptr, nullptr, nullptr, 16, 100}, nullptr) == cudaErrorInvalidValue);
  CHECK(quantize_fp8({ElementType::kBF16, nullptr, 130, nullptr, nullptr, 1, 128}, nullptr) ==
        cudaErrorInvalidValue);
  CHECK(quantize_fp8({ElementType::kBF16, nullptr, 128, nullptr, nullptr, 0, 128}, nullptr) ==
        cudaSuccess);
}

}  // namespace pelton::cuda::test
