// Groups the accesses of a warp's lanes into the requests that a card would make of them, and
// counts sectors and wavefronts. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "cuda/emulator/trace.h"

namespace pelton::cuda::emulator {

enum class AccessKind : uint8_t {
  kRead,
  kWrite,
  kAtomic,
  kAsyncRead,   // global side of cp.async
  kAsyncWrite,  // shared side
  kMatrixRead,  // a row of ldmatrix
};

struct LoggedAccess {
  uintptr_t address = 0;
  uint32_t place = 0;  // of the instruction
  uint16_t bytes = 0;
  AccessKind kind = AccessKind::kRead;
  bool shared = false;
};

// Counters of one kernel, by allocation number.
struct KernelCounts {
  struct Buffer {
    std::string name;
    size_t size_bytes = 0;
    Flow read;
    Flow write;
    uint64_t atomics = 0;
  };
  std::map<uint32_t, Buffer> buffers;
  SharedTraffic shared;
  std::unordered_map<uint32_t, uint64_t> conflicts;  // by place
  uint64_t launches = 0, blocks = 0, mma = 0, ldmatrix = 0, barriers = 0, async_copies = 0;
  uint64_t atomics = 0;
};

class Traffic {
 public:
  void begin_block(unsigned num_threads);
  void log(unsigned thread, const LoggedAccess& access) { logs_[thread].push_back(access); }
  // The lanes of a warp have come to the same point: what they did is grouped and forgotten.
  void flush_warp(unsigned warp, KernelCounts& counts);

 private:
  struct Request {
    uint32_t place = 0;
    AccessKind kind = AccessKind::kRead;
    bool shared = false;
    unsigned count = 0;
    std::array<uint8_t, 32> lane;
    std::array<uintptr_t, 32> address;
    std::array<uint16_t, 32> bytes;
    void add(unsigned in_lane, const LoggedAccess& access);
  };
  void group(unsigned warp, KernelCounts& counts);
  static void finish(const Request& request, KernelCounts& counts);
  static void finish_global(const Request& request, KernelCounts& counts);
  static void finish_shared(const Request& request, KernelCounts& counts);

  std::vector<std::vector<LoggedAccess>> logs_;  // [thread]
};

}  // namespace pelton::cuda::emulator
