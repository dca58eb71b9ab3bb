// What is known of each byte of device memory: is it allocated, was it written, who touched it
// last. One for the process; told of allocations by the runtime. Used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cuda/emulator/device_memory.h"

namespace pelton::cuda::emulator {

// Who touched a byte and where in the program.
struct Mark {
  uint64_t stamp = 0;
  uint32_t place = 0;
};
// Two readers, of different warps where there are such: a writer that is one of them, or knows one
// of them, still meets the other.
struct Readers {
  Mark last;
  Mark other;
};

struct Allocation {
  uintptr_t begin = 0;
  size_t bytes = 0;
  bool live = true;
  bool keeps_readers = true;
  bool touched = false;  // in this kernel
  uint32_t number = 0;   // order of allocation
  std::string name;
  uintptr_t end() const { return begin + bytes; }
};

class Shadow : public MemoryWatcher {
 public:
  enum Flag : uint8_t { kLive = 1, kInitialised = 2, kRead = 4, kWritten = 8, kFreed = 16 };
  // Larger allocations (weights) keep no readers: a kernel that writes what another block reads is
  // then seen only in the other order.
  static constexpr size_t kMostBytesWithReaders = size_t{16} << 20;

  static Shadow& get();

  void allocated(const void* begin, size_t bytes) override;
  void freed(const void* begin, size_t bytes) override;
  void written(const void* begin, size_t bytes) override;

  // Null: no allocation, live or freed, holds the address.
  Allocation* find(uintptr_t address);
  // The live allocation nearest to the address, for reports.
  const Allocation* nearest(uintptr_t address) const;
  void name(uintptr_t address, const std::string& name);

  uint8_t* flags(uintptr_t address) const;
  Mark& writer(uintptr_t address) const;
  Readers& readers(uintptr_t address) const;

  // Bytes with the flag (kRead or kWritten) in this kernel.
  uint64_t count(const Allocation& allocation, Flag flag) const;
  void begin_kernel();  // forgets kRead and kWritten
  const std::map<uintptr_t, Allocation>& allocations() const { return allocations_; }

 private:
  Shadow();
  std::map<uintptr_t, Allocation> allocations_;  // by begin; freed ones too
  Allocation* last_found_ = nullptr;
  uint32_t next_number_ = 0;
  uint8_t* flags_ = nullptr;
  Mark* writers_ = nullptr;
  Readers* readers_ = nullptr;
};

}  // namespace pelton::cuda::emulator
