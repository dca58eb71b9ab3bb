// Turns a kernel and its arguments into work for a stream. From any thread.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>

namespace pelton::cuda::emulator {

// `body` runs the kernel once for the current thread of the current block. Checks the limits of the
// card (cudaErrorInvalidValue, cudaErrorInvalidConfiguration), then enqueues. With `host_pointer`,
// the work fails when it runs.
cudaError_t launch_kernel(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                          cudaStream_t stream, std::function<void()> body,
                          const void* host_pointer = nullptr);

// A pointer to host memory among the words of a kernel's argument, which a card could not follow
// (pinned memory it could); null if there is none.
const void* host_pointer_in(const void* argument, size_t bytes);

// What cudaFuncSetAttribute says: this kernel may have that much dynamic shared memory.
void allow_dynamic_shared(const void* kernel, size_t bytes);

// Runs a grid here and now; what launch's work does.
cudaError_t run_grid(const std::string& name, dim3 grid, dim3 block, size_t shared_bytes,
                     const std::function<void()>& body);

// Of an address in this program, demangled; "kernel at 0x..." where there is no symbol.
std::string symbol_name(const void* address);
// What was added to this program's addresses when it was loaded.
uintptr_t load_bias();

}  // namespace pelton::cuda::emulator
