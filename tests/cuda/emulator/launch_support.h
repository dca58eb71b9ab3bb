// What tests of the emulator share: device buffers, launching and waiting, schedules.
#pragma once

#include <string>
#include <vector>

#include "cuda/emulator/emulator.h"
#include "cuda/emulator/fault.h"
#include "cuda/emulator/settings.h"
#include "cuda/kernels/device.h"
#include "tests/support/catch.h"

namespace pelton::cuda {

// Device memory with a vector's contents, freed at the end of the scope.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t count) : count_(count) {
    REQUIRE(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)) == cudaSuccess);
  }
  explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) {
    REQUIRE(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) ==
            cudaSuccess);
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* get() const { return data_; }
  size_t size() const { return count_; }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    REQUIRE(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost) ==
            cudaSuccess);
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

// Launches on the default stream and waits: the kernel's own error.
template <class... P, class... A>
cudaError_t run_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                       A&&... args) {
  const cudaError_t launched =
      launch(kernel, grid, block, shared_bytes, nullptr, std::forward<A>(args)...);
  return launched != cudaSuccess ? launched : cudaDeviceSynchronize();
}

// The fault's message ("" where there was none); the device works again afterwards. Buffers that
// were made before are gone.
inline std::string take_fault() {
  const auto fault = emulator::last_fault();
  emulator::clear_fault();
  emulator::reset();
  return fault ? fault->message : "";
}

inline std::vector<emulator::Schedule> all_schedules() {
  using emulator::Order;
  std::vector<emulator::Schedule> schedules = {{Order::kForward, 0, 0}, {Order::kReverse, 0, 0}};
  for (uint64_t seed = 1; seed <= 5; ++seed) schedules.push_back({Order::kRandom, seed, 0});
  return schedules;
}

}  // namespace pelton::cuda
