// The emulated card's memory: an arena at a fixed address, so that an address tells what it is.
// Each allocation is poisoned, ends near a page that cannot be touched, and is fenced; addresses
// are not handed out again before all others were. Not thread-safe: the runtime's lock guards it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pelton::cuda::emulator {

// Told of what becomes of device memory, for tracing (which bytes are live, which were written).
class MemoryWatcher {
 public:
  virtual ~MemoryWatcher() = default;
  virtual void allocated(const void* begin, size_t bytes) = 0;
  virtual void freed(const void* begin, size_t bytes) = 0;
  virtual void written(const void* begin, size_t bytes) = 0;  // by a copy or memset
};
void watch_device_memory(MemoryWatcher* watcher);  // null: nobody; outlives its use
MemoryWatcher* device_memory_watcher();

// The whole arena's address range, whatever is allocated.
bool in_device_arena(const void* address);

class DeviceMemory {
 public:
  static constexpr unsigned char kPoison = 0xFF;  // a NaN in every floating type
  static constexpr unsigned char kFence = 0xFD;
  static constexpr size_t kAlignment = 256;

  DeviceMemory();
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Null: the arena is used up or `bytes` is 0.
  void* allocate(size_t bytes);
  bool free(void* address);  // false: not an allocation's start
  void free_all();
  // Whether all of [address, address + bytes) lies in one live allocation.
  bool holds(const void* address, size_t bytes) const;
  std::vector<std::string> broken_fences() const;

  size_t used_bytes() const { return used_; }
  size_t count() const { return live_.size(); }

 private:
  struct Piece {
    unsigned char* pages;  // first accessible page
    size_t page_bytes;     // accessible; a page on either side is not
    size_t bytes;          // as asked for
  };
  void fence_off(const Piece& piece, unsigned char* begin) const;
  bool fences_hold(const Piece& piece, const unsigned char* begin) const;

  unsigned char* next_ = nullptr;                      // never handed out from here on
  std::map<unsigned char*, Piece> live_;               // by the address given out
  std::multimap<size_t, unsigned char*> free_ranges_;  // guarded length -> start
  size_t used_ = 0;
};

}  // namespace pelton::cuda::emulator
