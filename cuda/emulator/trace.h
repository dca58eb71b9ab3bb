// Sees every access that a kernel makes (kernels of the traced target): races, bounds,
// uninitialised reads, and what crosses the memory bus. For tests; one Trace at a time, on the
// thread that waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pelton::cuda::emulator {

// A warp's instruction asks for the 32-byte sectors that its lanes touch. It needs as many as its
// distinct bytes would fill.
struct Flow {
  uint64_t requests = 0;        // warp instructions
  uint64_t bytes = 0;           // distinct within each request: what lanes share counts once
  uint64_t unique_bytes = 0;    // distinct over the whole kernel: the least that could move
  uint64_t sectors = 0;         // requested
  uint64_t sectors_needed = 0;  // of `bytes`, densely packed
  double sector_ratio() const;  // sectors / sectors_needed; 1 where there are none
  double byte_ratio() const;    // bytes / unique_bytes
  void add(const Flow& other);
};

// Global memory, one allocation; by the name that Trace::name() gave, else "#3" in order.
struct BufferTraffic {
  std::string name;
  size_t size_bytes = 0;
  Flow read;             // plain loads and cp.async
  Flow write;            // plain stores
  uint64_t atomics = 0;  // lane by lane
};

struct ConflictSite {
  std::string place;  // function and source line
  uint64_t conflicts = 0;
};

// One wavefront moves up to 128 bytes from distinct banks. 8-byte accesses go by half warps,
// 16-byte ones by quarters: as many wavefronts are ideal.
struct SharedTraffic {
  uint64_t requests = 0;
  uint64_t bytes = 0;  // lane by lane
  uint64_t wavefronts = 0;
  uint64_t ideal_wavefronts = 0;
  uint64_t conflicts() const { return wavefronts - ideal_wavefronts; }
  std::vector<ConflictSite> sites;  // the worst first
};

// All launches of one kernel under this trace.
struct KernelTrace {
  std::string name;
  uint64_t launches = 0;
  uint64_t blocks = 0;
  std::vector<BufferTraffic> buffers;
  Flow read;  // all buffers
  Flow write;
  SharedTraffic shared;
  uint64_t mma = 0;           // warp instructions
  uint64_t ldmatrix = 0;      // warp instructions
  uint64_t barriers = 0;      // completed, block-wide and named
  uint64_t async_copies = 0;  // lane by lane
  uint64_t atomics = 0;
  // The buffer of that name; an empty one if the kernel never touched it.
  BufferTraffic buffer(std::string_view name) const;
};

struct Finding {
  // "race", "out of bounds", "use after free", "uninitialised read", "cp.async without wait",
  // "misaligned access"
  std::string kind;
  std::string message;
  uint64_t count = 1;  // at the same place
};

struct TraceReport {
  std::vector<KernelTrace> kernels;
  std::vector<Finding> findings;  // at most kMaxFindings places
  bool clean() const { return findings.empty(); }
  // By a part of its name; an empty one if no such kernel ran.
  KernelTrace kernel(std::string_view part_of_name) const;
  std::string describe() const;
};
inline constexpr size_t kMaxFindings = 50;

// Tracing is on for its life. Blocks run on this thread alone, in the order of the schedule.
class Trace {
 public:
  Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // What reports call the allocation that holds `pointer`.
  void name(const void* pointer, const std::string& name);
  // Waits for the device; what ran since the trace began.
  TraceReport report();
};

}  // namespace pelton::cuda::emulator
