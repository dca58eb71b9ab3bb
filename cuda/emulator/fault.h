// What went wrong inside a kernel. The first fault stops its grid; the launch's work returns the
// code, which the runtime makes sticky. Thread-safe.
#pragma once

#include <cuda_runtime.h>

#include <optional>
#include <string>

namespace pelton::cuda::emulator {

struct Fault {
  cudaError_t code = cudaErrorLaunchFailure;
  std::string kind;     // "divergent barrier", "misaligned access", ...
  std::string message;  // one line or more: kernel, block, thread, places
};

// The last fault of any kernel since clear_fault(). Faults go to stderr too unless quieted.
std::optional<Fault> last_fault();
void clear_fault();
void set_fault(Fault fault);
void set_faults_quiet(bool quiet);

}  // namespace pelton::cuda::emulator
