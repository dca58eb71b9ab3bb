#include "cuda/emulator/device_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace pelton::cuda::emulator {
namespace {

// Both lie where the compilers' sanitizers allow memory of the application.
#if defined(__SANITIZE_THREAD__)
#define PELTON_ARENA_LOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PELTON_ARENA_LOW 1
#endif
#endif
#if defined(PELTON_ARENA_LOW)
constexpr uintptr_t kArenaBegin = 0x006000000000;
#else
constexpr uintptr_t kArenaBegin = 0x200000000000;
#endif
constexpr size_t kArenaBytes = size_t{1} << 36;
constexpr size_t kPage = 4096;

size_t round_up(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}
unsigned char* arena_begin() {
  return reinterpret_cast<unsigned char*>(kArenaBegin);  // NOLINT
}

std::atomic<MemoryWatcher*> watcher{nullptr};

}  // namespace

void watch_device_memory(MemoryWatcher* w) {
  watcher = w;
}
MemoryWatcher* device_memory_watcher() {
  return watcher;
}

bool in_device_arena(const void* address) {
  const auto a = reinterpret_cast<uintptr_t>(address);
  return a >= kArenaBegin && a < kArenaBegin + kArenaBytes;
}

DeviceMemory::DeviceMemory() : next_(arena_begin()) {
  void* got = mmap(next_, kArenaBytes, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != next_) {
    std::fprintf(stderr, "emulated device: the address range of its memory is taken\n");
    std::abort();
  }
}

DeviceMemory::~DeviceMemory() {
  munmap(arena_begin(), kArenaBytes);
}

void* DeviceMemory::allocate(size_t bytes) {
  if (bytes == 0 || bytes > kArenaBytes / 2) return nullptr;
  const size_t page_bytes = round_up(round_up(bytes, kAlignment), kPage);
  const size_t guarded = page_bytes + 2 * kPage;
  unsigned char* start = nullptr;
  if (next_ + guarded <= arena_begin() + kArenaBytes) {
    start = next_;
    next_ += guarded;
  } else if (const auto found = free_ranges_.lower_bound(guarded); found != free_ranges_.end()) {
    start = found->second;
    if (found->first > guarded) {
      free_ranges_.emplace(found->first - guarded, start + guarded);
    }
    free_ranges_.erase(found);
  } else {
    return nullptr;
  }
  const Piece piece{start + kPage, page_bytes, bytes};
  if (mprotect(piece.pages, page_bytes, PROT_READ | PROT_WRITE) != 0) return nullptr;
  unsigned char* begin = piece.pages + page_bytes - round_up(bytes, kAlignment);
  std::memset(begin, kPoison, bytes);
  fence_off(piece, begin);
  live_.emplace(begin, piece);
  used_ += bytes;
  if (MemoryWatcher* w = watcher) w->allocated(begin, bytes);
  return begin;
}

bool DeviceMemory::free(void* address) {
  const auto found = live_.find(static_cast<unsigned char*>(address));
  if (found == live_.end()) return false;
  const Piece piece = found->second;
  if (!fences_hold(piece, found->first)) {
    std::fprintf(stderr,
                 "emulated device: memory outside of an allocation of %zu bytes was written\n",
                 piece.bytes);
    std::abort();
  }
  if (MemoryWatcher* w = watcher) w->freed(found->first, piece.bytes);
  // Whoever still uses it faults.
  madvise(piece.pages, piece.page_bytes, MADV_DONTNEED);
  mprotect(piece.pages, piece.page_bytes, PROT_NONE);
  free_ranges_.emplace(piece.page_bytes + 2 * kPage, piece.pages - kPage);
  used_ -= piece.bytes;
  live_.erase(found);
  return true;
}

void DeviceMemory::free_all() {
  while (!live_.empty()) free(live_.begin()->first);
}

bool DeviceMemory::holds(const void* address, size_t bytes) const {
  const auto* p = static_cast<const unsigned char*>(address);
  auto after = live_.upper_bound(const_cast<unsigned char*>(p));
  if (after == live_.begin()) return false;
  --after;
  return p + bytes <= after->first + after->second.bytes;
}

void DeviceMemory::fence_off(const Piece& piece, unsigned char* begin) const {
  std::memset(piece.pages, kFence, begin - piece.pages);
  std::memset(begin + piece.bytes, kFence, piece.pages + piece.page_bytes - begin - piece.bytes);
}

bool DeviceMemory::fences_hold(const Piece& piece, const unsigned char* begin) const {
  for (const unsigned char* p = piece.pages; p < begin; ++p) {
    if (*p != kFence) return false;
  }
  for (const unsigned char* p = begin + piece.bytes; p < piece.pages + piece.page_bytes; ++p) {
    if (*p != kFence) return false;
  }
  return true;
}

std::vector<std::string> DeviceMemory::broken_fences() const {
  std::vector<std::string> out;
  for (const auto& [begin, piece] : live_) {
    if (!fences_hold(piece, begin)) {
      out.push_back(fmt::format("{} bytes at {}", piece.bytes, static_cast<void*>(begin)));
    }
  }
  return out;
}

}  // namespace pelton::cuda::emulator
