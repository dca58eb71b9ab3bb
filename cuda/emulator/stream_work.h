// The seam between the device side (launch) and the runtime (streams): a launch becomes a Work that
// a stream runs in order, once or, replayed from a graph, many times. Callable from any thread.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>
#include <string>

namespace pelton::cuda::emulator {

struct Work {
  std::string name;              // for reports: the kernel's name
  const void* kernel = nullptr;  // its identity: a graph update needs the same one
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  // Runs it to the end. Owns copies of all arguments. What it returns other than cudaSuccess is
  // sticky: the whole device is lost, as on a card.
  std::function<cudaError_t()> run;
};

// Puts the work at the end of the stream, or into the graph that the stream captures.
cudaError_t enqueue(cudaStream_t stream, Work work);

// A call that failed at once without harm (a launch with too many threads): what the next
// cudaGetLastError returns. Gives back its argument.
cudaError_t record_error(cudaError_t error);

// Whether the address lies in memory of cudaMallocHost, which kernels may read and write.
bool is_pinned(const void* address);

}  // namespace pelton::cuda::emulator
