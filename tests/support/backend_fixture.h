// What tests of a Backend need: tensors to and from the device, weights from floats, random values,
// batches. Works on any backend, host-addressable or not.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/quantized_blocks.h"
#include "core/random.h"
#include "tests/support/catch.h"

namespace pelton::test {

template <typename T>
T must(StatusOr<T> value) {
  INFO(std::string(value.status().message()));
  REQUIRE(value.ok());
  return std::move(value).value();
}
inline void must_ok(const Status& status) {
  INFO(std::string(status.message()));
  REQUIRE(status.ok());
}

inline std::vector<float> random_normal(int64_t n, uint64_t seed, float scale = 1.0F) {
  std::vector<float> out(n);
  for (int64_t i = 0; i < n; ++i) {
    const float radius = std::sqrt(-2.0F * std::log(counter_uniform(seed, i, 0)));
    out[i] = scale * radius * std::cos(6.2831853F * counter_uniform(seed, i, 1));
  }
  return out;
}

// A buffer and its view; of the backend's activation dtype unless said otherwise.
struct DeviceTensor {
  std::unique_ptr<Buffer> buffer;
  Tensor view;
};

inline DeviceTensor make_tensor(Backend& backend, int64_t rows, int64_t cols, DType dtype,
                                int64_t row_stride = 0) {
  DeviceTensor t;
  if (row_stride == 0) row_stride = cols;
  t.buffer = must(backend.allocate(dtype_bytes(dtype, rows * row_stride)));
  t.view = {t.buffer->data(), dtype, rows, cols, row_stride};
  return t;
}
inline DeviceTensor make_activations(Backend& backend, int64_t rows, int64_t cols) {
  return make_tensor(backend, rows, cols, backend.activation_dtype());
}
inline DeviceTensor upload_bytes(Backend& backend, const void* data, int64_t rows, int64_t cols,
                                 DType dtype) {
  DeviceTensor t;
  const auto* bytes = static_cast<const std::byte*>(data);
  t.buffer = must(backend.upload({bytes, static_cast<size_t>(dtype_bytes(dtype, rows * cols))}));
  t.view = {t.buffer->data(), dtype, rows, cols, cols};
  return t;
}
inline DeviceTensor upload_as(Backend& backend, const std::vector<float>& values, int64_t cols,
                              DType dtype) {
  std::vector<std::byte> bytes(dtype_bytes(dtype, static_cast<int64_t>(values.size())));
  quantize(dtype, values, bytes.data());
  return upload_bytes(backend, bytes.data(), static_cast<int64_t>(values.size()) / cols, cols,
                      dtype);
}
inline DeviceTensor upload(Backend& backend, const std::vector<float>& values, int64_t cols) {
  return upload_as(backend, values, cols, backend.activation_dtype());
}
inline DeviceTensor upload_f32(Backend& backend, const std::vector<float>& values) {
  return upload_as(backend, values, static_cast<int64_t>(values.size()), DType::kF32);
}
inline std::vector<float> download(Backend& backend, const Tensor& x) {
  std::vector<std::byte> bytes(dtype_bytes(x.dtype, x.rows * x.cols));
  must_ok(backend.download(x, bytes));
  std::vector<float> out(x.rows * x.cols);
  dequantize(x.dtype, bytes.data(), x.rows * x.cols, out.data());
  return out;
}
// What the device will see of a value once it is an activation.
inline std::vector<float> as_activations(Backend& backend, std::vector<float> values) {
  std::vector<std::byte> bytes(
      dtype_bytes(backend.activation_dtype(), static_cast<int64_t>(values.size())));
  quantize(backend.activation_dtype(), values, bytes.data());
  dequantize(backend.activation_dtype(), bytes.data(), static_cast<int64_t>(values.size()),
             values.data());
  return values;
}

// What the device keeps of a matrix: plain types are held as activations are, blocks as they are.
inline std::vector<float> as_weights(Backend& backend, DType dtype, std::vector<float> values) {
  return is_quantized(dtype) || backend.activation_dtype() == DType::kF32
             ? values
             : as_activations(backend, std::move(values));
}

// Weights of any format made from floats; the reference reads back what was quantised.
class FloatSource final : public RowSource {
 public:
  FloatSource(DType dtype, int64_t rows, int64_t cols, const std::vector<float>& values,
              bool mapped = false)
      : dtype_(dtype), rows_(rows), cols_(cols), mapped_(mapped) {
    bytes_.resize(dtype_bytes(dtype, rows * cols));
    quantize(dtype, values, bytes_.data());
  }
  DType dtype() const override { return dtype_; }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  void read_rows(int64_t begin, int64_t end, void* out) const override {
    const int64_t row = dtype_bytes(dtype_, cols_);
    std::memcpy(out, bytes_.data() + begin * row, (end - begin) * row);
  }
  const void* mapped() const override { return mapped_ ? bytes_.data() : nullptr; }
  std::vector<float> values() const {
    std::vector<float> out(rows_ * cols_);
    dequantize(dtype_, bytes_.data(), rows_ * cols_, out.data());
    return out;
  }

 private:
  DType dtype_;
  int64_t rows_, cols_;
  bool mapped_;
  std::vector<std::byte> bytes_;
};

inline std::unique_ptr<Matrix> pack_one(Backend& backend, const FloatSource& source) {
  const RowSource* sources[] = {&source};
  return must(backend.pack(sources));
}

// How far a result in this dtype may lie from float64, relative to the magnitude of its terms.
inline double tolerance(DType dtype) {
  return dtype == DType::kF32 ? 2e-6 : dtype == DType::kF16 ? 2e-3 : 1.6e-2;
}

// |actual - expected| <= tolerance * scale, everywhere; scale: the size of what was summed.
inline void check_near(const std::vector<float>& actual, const std::vector<double>& expected,
                       double tolerance, double scale) {
  REQUIRE(actual.size() == expected.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[i]);
    if (!(error <= worst)) worst = error;  // a NaN counts
  }
  CHECK(worst <= tolerance * scale);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace pelton::test
