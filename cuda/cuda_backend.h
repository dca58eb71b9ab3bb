// The CUDA backend: 16-bit activations, weights packed on the card, one stream for all
// of a step's work. Device errors are sticky and come out of prepare(), sample(), collect() and
// synchronize(). Made and used by one thread at a time; owns the card's memory that it took.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "core/status.h"

namespace pelton {

namespace cuda {
class StepClock;
}

struct CudaOptions {
  int device = 0;
  double memory_utilization = 0.9;   // of the card's memory, taken at start; in (0, 1]
  DType activations = DType::kBF16;  // or kF16
  bool batch_invariant = true;       // a row's result does not depend on the rows beside it
  // Where the choice of matrix products is kept between runs (without batch_invariant); empty:
  // nowhere.
  std::string cache_folder;
  float own_product_handicap = 1;  // LibraryGemm::set_own_handicap(), for tests
  bool graphs = true;              // decode steps are recorded at start and replayed
  // Measures each step on the card; null: nothing does.
  std::shared_ptr<cuda::StepClock> step_clock;
  // For tests: each allocation is the runtime's own, so that it can be fenced and poisoned.
  bool separate_allocations = false;
};

// What this machine lacks for the backend: FAILED_PRECONDITION that names the driver, the card or
// its compute capability (too low, or none that this program was compiled for); OK where there is
// nothing.
Status check_cuda(const CudaOptions& options);

// check_cuda()'s errors, FAILED_PRECONDITION (no cuBLASLt, without batch_invariant),
// INVALID_ARGUMENT (an option), RESOURCE_EXHAUSTED (memory).
StatusOr<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& options);

}  // namespace pelton
