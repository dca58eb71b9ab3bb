// The kernels at an 8B model's shapes, each with the bytes and operations that it cannot do
// without. One thread.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>
#include <vector>

#include "bench/gpu_check/check_context.h"
#include "bench/gpu_check/device_time.h"
#include "core/status.h"

namespace pelton::bench {

struct KernelCase {
  std::string name;
  double bytes = 0;       // that must move, once each
  double operations = 0;  // on the matrix units; 0: none to speak of
  // Launches that the figure is the mean of; each is told its index, to take other memory, so that
  // the L2 cache does not hold what a step would find in memory.
  int launches = 1;
  std::function<cudaError_t(int, cudaStream_t)> launch;
};

// Measures one case at once; its memory may go afterwards.
using MeasureCase = std::function<Status(const KernelCase&)>;

// Device memory for the cases: filled with one byte, or uploaded.
StatusOr<DeviceMemory> filled(int64_t bytes, int value);
StatusOr<DeviceMemory> uploaded(const std::vector<int32_t>& values);

Status row_cases(const CheckContext& context, const MeasureCase& measure);
Status linear_cases(const CheckContext& context, const MeasureCase& measure);
Status attention_cases(const CheckContext& context, const MeasureCase& measure);
Status moving_cases(const CheckContext& context, const MeasureCase& measure);
Status encoder_cases(const CheckContext& context, const MeasureCase& measure);
Status sampling_cases(const CheckContext& context, const MeasureCase& measure);

}  // namespace pelton::bench
