#include "cuda/emulator/launch.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/emulator/fault.h"
#include "cuda/emulator/grid_pool.h"
#include "cuda/emulator/settings.h"
#include "cuda/emulator/stream_work.h"

namespace pelton::cuda::emulator {
namespace {

// Dynamic shared memory that each kernel has asked for.
struct Allowances {
  std::mutex mutex;
  std::map<const void*, size_t> bytes;
};
Allowances& allowances() {
  static Allowances allowances;
  return allowances;
}

size_t allowed(const void* kernel) {
  std::lock_guard lock(allowances().mutex);
  const auto found = allowances().bytes.find(kernel);
  return found == allowances().bytes.end() ? 0 : found->second;
}

cudaError_t check_launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes) {
  const CardLimits limits = card_limits();
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > limits.max_threads_per_block || block.z > 64) {
    return cudaErrorInvalidConfiguration;
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 0xffffu ||
      grid.z > 0xffffu) {
    return cudaErrorInvalidConfiguration;
  }
  if (shared_bytes > limits.shared_per_block &&
      (shared_bytes > allowed(kernel) || shared_bytes > limits.shared_per_block_optin)) {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

// Whether something is mapped there.
bool is_mapped(uintptr_t address) {
  constexpr uintptr_t kPage = 4096;
  unsigned char resident = 0;
  return mincore(reinterpret_cast<void*>(address / kPage * kPage), 1, &resident) == 0;
}

}  // namespace

const void* host_pointer_in(const void* argument, size_t bytes) {
  // Where programs, heaps and libraries lie on Linux; few other values look like that.
  constexpr uintptr_t kLowest = 0x5000'0000'0000;
  constexpr uintptr_t kEnd = 0x8000'0000'0000;
  const auto begin = reinterpret_cast<uintptr_t>(argument);
  for (uintptr_t at = (begin + 7) / 8 * 8; at + 8 <= begin + bytes; at += 8) {
    uintptr_t word = 0;
    std::memcpy(&word, reinterpret_cast<const void*>(at), sizeof(word));
    if (word < kLowest || word >= kEnd || !is_mapped(word)) continue;
    if (!is_pinned(reinterpret_cast<const void*>(word))) return reinterpret_cast<const void*>(word);
  }
  return nullptr;
}

cudaError_t launch_kernel(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                          cudaStream_t stream, std::function<void()> body,
                          const void* host_pointer) {
  const cudaError_t invalid = check_launch(kernel, grid, block, shared_bytes);
  if (invalid != cudaSuccess) {
    set_fault({invalid, "invalid launch",
               fmt::format("invalid launch: {}: grid ({}, {}, {}), block ({}, {}, {}), {} bytes of "
                           "dynamic shared memory",
                           symbol_name(kernel), grid.x, grid.y, grid.z, block.x, block.y, block.z,
                           shared_bytes)});
    return record_error(invalid);
  }
  Work work;
  work.name = symbol_name(kernel);
  work.kernel = kernel;
  work.grid = grid;
  work.block = block;
  work.shared_bytes = shared_bytes;
  if (host_pointer != nullptr) {
    work.run = [name = work.name, host_pointer] {
      set_fault(
          {cudaErrorIllegalAddress, "host memory",
           fmt::format("host memory: an argument of {} points to it ({})", name, host_pointer)});
      return cudaErrorIllegalAddress;
    };
    return enqueue(stream, std::move(work));
  }
  work.run = [name = work.name, grid, block, shared_bytes, body = std::move(body)] {
    return run_grid(name, grid, block, shared_bytes, body);
  };
  return enqueue(stream, std::move(work));
}

void allow_dynamic_shared(const void* kernel, size_t bytes) {
  std::lock_guard lock(allowances().mutex);
  allowances().bytes[kernel] = bytes;
}

cudaError_t run_grid(const std::string& name, dim3 grid, dim3 block, size_t shared_bytes,
                     const std::function<void()>& body) {
  Grid work;
  work.name = name;
  work.size = grid;
  work.block = block;
  work.shared_bytes = shared_bytes;
  work.body = &body;
  Fault fault;
  if (run_blocks(work, schedule(), fault)) return cudaSuccess;
  const cudaError_t code = fault.code;
  set_fault(std::move(fault));
  return code;
}

}  // namespace pelton::cuda::emulator
