// Control of the emulated CUDA runtime, for tests: which card there is, what exists, which call
// fails. Thread-safe. The environment sets the card at start, see card_from_environment().
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

namespace pelton::cuda::emulator {

struct Card {
  std::string name = "emulated sm_90";
  int major = 9, minor = 0;
  int multiprocessors = 4;
  int64_t memory_bytes = int64_t{256} << 20;
  int64_t shared_per_block_optin = 227 << 10;
  int64_t shared_per_multiprocessor = 228 << 10;
  int64_t l2_bytes = 50 << 20;
  int driver_version = 13000;  // 0: no driver is installed
  bool present = true;         // false: a driver, but no card
  bool has_code = true;        // false: the program was compiled for other cards
};
// Limits of a real architecture by its name (sm_80, 86, 89, 90, 100, 120); with few
// multiprocessors, so that grids stay small. Empty name: no such card.
Card card_named(const std::string& name);

// Everything that exists is dropped, counters and faults are cleared, and this card is there.
void reset(const Card& card);
void reset();  // with the card as it is

// Objects that were made and not given back.
struct Objects {
  int64_t device_allocations = 0, device_bytes = 0;
  int64_t pinned_allocations = 0, pinned_bytes = 0;
  int64_t streams = 0, events = 0, graphs = 0, executable_graphs = 0, library_handles = 0;
  bool none() const {
    return device_allocations + pinned_allocations + streams + events + graphs + executable_graphs +
               library_handles ==
           0;
  }
};
Objects live_objects();
std::string describe(const Objects& objects);

// Calls of the runtime and of cuBLASLt since the last reset, and of cudaMalloc among them.
int64_t calls();
int64_t device_allocations_made();
// The n-th call from now (1: the next) fails with `error`; `sticky`: and all after it, as when the
// device is lost. A call that frees still frees. n = 0: none.
void fail_call(int64_t n, cudaError_t error, bool sticky = false);
std::string failed_call();  // the name of the call that was made to fail, or empty

// cuBLASLt refuses products of so many columns, though it offers algorithms for them; 0: none.
void refuse_product(int columns);

// Work that nothing waited for yet stays undone, which shows a missing wait. Another legal order:
// after each call some streams, drawn by the seed, go on by an operation. 0: as late as possible.
void set_stream_order(uint64_t seed);
int64_t pending_work();  // operations queued and not done
// Asynchronous copies so far out of host memory that is not pinned: a card may make the host wait
// for the stream at each.
int64_t pageable_copies();
// Kernels whose first launch was captured: an older driver may not be able to load them there.
std::vector<std::string> first_in_captures();

// Fences around device allocations that were written over, one line each.
std::vector<std::string> broken_fences();
// The device's sticky error, cudaSuccess if none, and what it came from.
cudaError_t device_error();
std::string device_error_source();

}  // namespace pelton::cuda::emulator
