// What tests of kernels need: arrays on the device, values as an element type holds them, random
// numbers, comparison with float64. Works under the emulator and on a card alike.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/random.h"
#include "cuda/kernels/element_type.h"
#include "tests/support/catch.h"

namespace pelton::cuda::test {

inline void must(cudaError_t error) {
  INFO(cudaGetErrorName(error));
  REQUIRE(error == cudaSuccess);
}

// Device memory of exactly `count` elements: what lies beyond is out of bounds. Freed with it.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    void* data = nullptr;
    must(cudaMalloc(&data, count * sizeof(T) + (count == 0 ? 1 : 0)));
    data_ = static_cast<T*>(data);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    must(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(DeviceArray&& other) noexcept : data_(other.data_), count_(other.count_) {
    other.data_ = nullptr;
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  size_t size() const { return count_; }
  // Waits for everything before it on the default stream.
  std::vector<T> host() const {
    std::vector<T> out(count_);
    must(cudaMemcpy(out.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

// Elements of either 16-bit type travel as their bits.
inline uint16_t element_bits(ElementType type, float x) {
  uint16_t bits = 0;
  if (type == ElementType::kBF16) {
    const __nv_bfloat16_raw raw = __float2bfloat16(x);
    bits = raw.x;
  } else {
    const __half_raw raw = __float2half_rn(x);
    bits = raw.x;
  }
  return bits;
}
inline float element_value(ElementType type, uint16_t bits) {
  if (type == ElementType::kBF16) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float x = 0;
    std::memcpy(&x, &wide, sizeof(x));
    return x;
  }
  __half_raw raw;
  raw.x = bits;
  return __half2float(raw);
}
inline std::vector<uint16_t> to_elements(ElementType type, const std::vector<float>& values) {
  std::vector<uint16_t> out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = element_bits(type, values[i]);
  return out;
}
inline std::vector<float> to_floats(ElementType type, const std::vector<uint16_t>& bits) {
  std::vector<float> out(bits.size());
  for (size_t i = 0; i < bits.size(); ++i) out[i] = element_value(type, bits[i]);
  return out;
}
// What the device sees of a value once it is an element.
inline std::vector<float> as_elements(ElementType type, const std::vector<float>& values) {
  return to_floats(type, to_elements(type, values));
}

inline std::vector<float> random_values(size_t count, uint64_t seed, float scale = 1.0F) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) {
    const float radius = std::sqrt(-2.0F * std::log(counter_uniform(seed, i, 0)));
    out[i] = scale * radius * std::cos(6.2831853F * counter_uniform(seed, i, 1));
  }
  return out;
}

// Half a unit in the last place of an element, relative to its value, and a little for float32
// sums.
inline double element_tolerance(ElementType type) {
  return type == ElementType::kBF16 ? 1.0 / 256 + 1e-5 : 1.0 / 2048 + 1e-5;
}

// |actual - expected| <= relative * |expected| + absolute, everywhere; a NaN fails.
inline void check_close(const std::vector<float>& actual, const std::vector<double>& expected,
                        double relative, double absolute) {
  REQUIRE(actual.size() == expected.size());
  size_t bad = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double bound = relative * std::fabs(expected[i]) + absolute;
    if (std::fabs(actual[i] - expected[i]) <= bound) continue;
    if (bad++ == 0) CHECK(actual[i] == Approx(expected[i]).margin(bound));
  }
  CHECK(bad == 0);
}

}  // namespace pelton::cuda::test
