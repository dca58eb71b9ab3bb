// How long the card was busy with each step and idle before the next: events before the first
// kernel of a step's forward pass and after the last one of its sampling. Off unless CudaOptions
// names one. Engine thread; take() where no step is under way.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/status.h"
#include "cuda/handles.h"

namespace pelton::cuda {

struct StepTimes {
  float busy_us = 0;  // from a step's first kernel to its last
  float idle_us = 0;  // from there to the next step's first kernel
};

class StepClock {
 public:
  // Before the first kernel: whatever the step copies to the card is behind.
  Status begin(cudaStream_t stream);
  // After what is the last kernel so far.
  Status end(cudaStream_t stream);
  // Reads the events of steps that are over. Never waits.
  Status collect();
  // The steps read so far, at most kMostSteps; the first one after this has none before it.
  std::vector<StepTimes> take();

  static constexpr size_t kMostSteps = 1 << 16;

 private:
  struct Step {
    Event begin, end;  // with timing
  };
  // More steps than are under way at once: the oldest is dropped where nobody collects.
  static constexpr uint64_t kSlots = 16;
  Step& step(uint64_t number) { return steps_[number % kSlots]; }

  std::array<Step, kSlots> steps_;
  uint64_t begun_ = 0;  // steps so far
  uint64_t read_ = 0;   // of them, those whose times were read or dropped
  std::vector<StepTimes> times_;
};

}  // namespace pelton::cuda
