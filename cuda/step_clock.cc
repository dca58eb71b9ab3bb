#include "cuda/step_clock.h"

#include <algorithm>
#include <utility>

#include "cuda/cuda_status.h"

namespace pelton::cuda {

Status StepClock::begin(cudaStream_t stream) {
  Step& next = step(begun_);
  if (!next.begin) {
    PELTON_ASSIGN_OR_RETURN(next.begin, make_timing_event());
    PELTON_ASSIGN_OR_RETURN(next.end, make_timing_event());
  }
  ++begun_;
  if (begun_ - read_ > kSlots) ++read_;
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(next.begin.get(), stream), "timing a step");
  return end(stream);
}

Status StepClock::end(cudaStream_t stream) {
  if (begun_ == 0) return Status();
  return cuda_status(cudaEventRecord(step(begun_ - 1).end.get(), stream), "timing a step");
}

Status StepClock::collect() {
  for (; read_ + 1 < begun_; ++read_) {
    const Step& of = step(read_);
    const Step& next = step(read_ + 1);
    const cudaError_t reached = cudaEventQuery(next.begin.get());
    if (reached == cudaErrorNotReady) {
      cudaGetLastError();  // it is none, and is not to come up in a later call
      return Status();
    }
    PELTON_RETURN_IF_CUDA_ERROR(reached, "timing a step");
    float busy_ms = 0, idle_ms = 0;
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventElapsedTime(&busy_ms, of.begin.get(), of.end.get()),
                                "timing a step");
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventElapsedTime(&idle_ms, of.end.get(), next.begin.get()),
                                "timing a step");
    if (times_.size() < kMostSteps) times_.push_back({1000 * busy_ms, 1000 * idle_ms});
  }
  return Status();
}

std::vector<StepTimes> StepClock::take() {
  read_ = begun_;
  return std::exchange(times_, {});
}

}  // namespace pelton::cuda
