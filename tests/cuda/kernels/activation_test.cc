// Activations and the softcap against float64.
#include "cuda/kernels/activation.h"

#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {
namespace {

double reference(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-x));
    case ActivationKind::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ActivationKind::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case ActivationKind::kRelu:
      return x > 0 ? x : 0;
  }
  return 0;
}

void check_activation(ElementType type, ActivationKind kind, bool gated, int rows, int cols,
                      int padding) {
  const int in = (gated ? 2 : 1) * cols + padding, out_stride = cols + padding;
  std::vector<float> x = random_values(static_cast<size_t>(rows) * in, 8, 3.0F);
  x[0] = 60;  // far out: nothing overflows
  if (x.size() > 1) x[1] = -60;
  const std::vector<float> seen = as_elements(type, x);
  const DeviceArray<uint16_t> dx(to_elements(type, x));
  const DeviceArray<uint16_t> out(std::vector<uint16_t>(static_cast<size_t>(rows) * out_stride));
  ActivationParams p;
  p.type = type;
  p.kind = kind;
  p.gated = gated;
  p.x = dx.data();
  p.x_stride = in;
  p.out = out.data();
  p.out_stride = out_stride;
  p.rows = rows;
  p.cols = cols;
  must(activation(p, nullptr));
  must(cudaDeviceSynchronize());
  std::vector<double> expected(static_cast<size_t>(rows) * out_stride);
  for (int m = 0; m < rows; ++m) {
    for (int i = 0; i < cols; ++i) {
      const float* row = seen.data() + static_cast<size_t>(m) * in;
      expected[static_cast<size_t>(m) * out_stride + i] =
          reference(kind, row[i]) * (gated ? row[cols + i] : 1.0);
    }
  }
  INFO("type " << static_cast<int>(type) << " kind " << static_cast<int>(kind) << " gated " << gated
               << " cols " << cols << " padding " << padding);
  check_close(to_floats(type, out.host()), expected, element_tolerance(type), 1e-5);
}

}  // namespace

TEST_CASE("activations agree with float64") {
  for (ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (ActivationKind kind : {ActivationKind::kSilu, ActivationKind::kGeluTanh,
                                ActivationKind::kGeluErf, ActivationKind::kRelu}) {
      for (bool gated : {false, true}) {
        check_activation(type, kind, gated, 3, 1536, 0);
        check_activation(type, kind, gated, 2, 3001, 0);
        check_activation(type, kind, gated, 4, 16, 8);
        check_activation(type, kind, gated, 1, 1, 3);
      }
    }
  }
}

TEST_CASE("rows beyond a grid's height are all reached") {
  check_activation(ElementType::kBF16, ActivationKind::kRelu, false, 32770, 1, 0);
}

TEST_CASE("the softcap agrees with float64 in every type") {
  for (int cols : {19, 4096}) {
    const int rows = 3;
    const std::vector<float> x = random_values(static_cast<size_t>(rows) * cols, 6, 40.0F);
    SoftcapParams p;
    p.x_stride = p.cols = cols;
    p.rows = rows;
    p.cap = 30;
    std::vector<double> expected;
    for (float v : x) expected.push_back(30 * std::tanh(double{v} / 30));
    const DeviceArray<float> floats(x);
    p.x = floats.data();
    must(softcap(p, nullptr));
    check_close(floats.host(), expected, 1e-6, 1e-5);
    for (ElementType type : {ElementType::kBF16, ElementType::kF16}) {
      expected.clear();
      for (float v : as_elements(type, x)) expected.push_back(30 * std::tanh(double{v} / 30));
      const DeviceArray<uint16_t> elements(to_elements(type, x));
      p.x = elements.data();
      p.is_float32 = false;
      p.type = type;
      must(softcap(p, nullptr));
      check_close(to_floats(type, elements.host()), expected, element_tolerance(type), 1e-5);
      p.is_float32 = true;
    }
  }
}

TEST_CASE("activations refuse negative sizes and a cap that is none") {
  ActivationParams p;
  CHECK(activation(p, nullptr) == cudaSuccess);
  p.rows = -1;
  CHECK(activation(p, nullptr) == cudaErrorInvalidValue);
  SoftcapParams s;
  CHECK(softcap(s, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
