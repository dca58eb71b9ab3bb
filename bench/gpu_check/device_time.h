// Kernels' times on the card, without the host's share: launches are captured in a graph and
// replayed between two events. One thread; owns its stream.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>

#include "core/status.h"

namespace pelton::bench {

// Device memory with the handle's life.
struct FreeDeviceMemory {
  void operator()(void* data) const { cudaFree(data); }
};
using DeviceMemory = std::unique_ptr<void, FreeDeviceMemory>;
StatusOr<DeviceMemory> device_memory(int64_t bytes);

Status cuda_error(cudaError_t error, const char* what);

class DeviceTimer {
 public:
  static StatusOr<std::unique_ptr<DeviceTimer>> make();
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  // Microseconds of one launch: one as it is, then `launches` of them (told their index) as a
  // graph, which is replayed once to warm up, then `repeats` times; the best.
  StatusOr<double> microseconds(int launches, int repeats,
                                const std::function<cudaError_t(int, cudaStream_t)>& launch);
  cudaStream_t stream() const { return stream_; }

 private:
  DeviceTimer() = default;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace pelton::bench
