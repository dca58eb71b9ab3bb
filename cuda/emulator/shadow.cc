#include "cuda/emulator/shadow.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/emulator/address_space.h"

namespace pelton::cuda::emulator {
namespace {

// Address space only: pages come when they are touched. Away from where programs and heaps lie.
void* reserve(size_t bytes) {
  static uintptr_t next = kShadowBase;
  void* wanted = reinterpret_cast<void*>(next);
  void* mapped = mmap(wanted, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  next += bytes;
  if (mapped != wanted) {
    std::perror("emulator: shadow memory");
    std::abort();
  }
  return mapped;
}

uintptr_t value(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

}  // namespace

Shadow& Shadow::get() {
  static Shadow* shadow = new Shadow;  // outlives everything that frees memory at exit
  return *shadow;
}

Shadow::Shadow()
    : flags_(static_cast<uint8_t*>(reserve(kGlobalBytes))),
      writers_(static_cast<Mark*>(reserve(kGlobalBytes * sizeof(Mark)))),
      readers_(static_cast<Readers*>(reserve(kGlobalBytes * sizeof(Readers)))) {}

void Shadow::allocated(const void* begin, size_t bytes) {
  if (!is_global(begin)) return;
  last_found_ = nullptr;
  Allocation allocation;
  allocation.begin = value(begin);
  allocation.bytes = bytes;
  allocation.keeps_readers = bytes <= kMostBytesWithReaders;
  allocation.number = next_number_++;
  allocation.name = fmt::format("#{}", allocation.number);
  // Addresses come back once the arena is used up.
  for (auto old = allocations_.lower_bound(allocation.begin);
       old != allocations_.end() && old->first < allocation.end();) {
    old = allocations_.erase(old);
  }
  std::memset(flags(allocation.begin), kLive, bytes);
  allocations_[allocation.begin] = std::move(allocation);
}

void Shadow::freed(const void* begin, size_t bytes) {
  const auto found = allocations_.find(value(begin));
  if (found == allocations_.end()) return;
  found->second.live = false;
  std::memset(flags(value(begin)), kFreed, bytes);
  // The marks' pages are given back.
  constexpr uintptr_t kPage = 4096;
  const auto drop = [](void* from, void* to) {
    const uintptr_t first = (value(from) + kPage - 1) / kPage * kPage;
    const uintptr_t last = value(to) / kPage * kPage;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  };
  drop(&writer(value(begin)), &writer(value(begin) + bytes));
  drop(&readers(value(begin)), &readers(value(begin) + bytes));
}

void Shadow::written(const void* begin, size_t bytes) {
  if (!is_global(begin)) return;
  uint8_t* flag = flags(value(begin));
  for (size_t i = 0; i < bytes; ++i) flag[i] |= kInitialised;
}

Allocation* Shadow::find(uintptr_t address) {
  if (last_found_ != nullptr && address - last_found_->begin < last_found_->bytes) {
    return last_found_;
  }
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  Allocation& candidate = std::prev(after)->second;
  if (address >= candidate.end()) return nullptr;
  last_found_ = &candidate;
  return &candidate;
}

const Allocation* Shadow::nearest(uintptr_t address) const {
  const Allocation* best = nullptr;
  uintptr_t best_distance = UINTPTR_MAX;
  for (const auto& [begin, allocation] : allocations_) {
    if (!allocation.live) continue;
    const uintptr_t distance = address < begin ? begin - address : address - allocation.end();
    if (distance < best_distance) best = &allocation, best_distance = distance;
  }
  return best;
}

void Shadow::name(uintptr_t address, const std::string& name) {
  if (Allocation* allocation = find(address)) allocation->name = name;
}

uint8_t* Shadow::flags(uintptr_t address) const {
  return flags_ + (address - kGlobalBase);
}
Mark& Shadow::writer(uintptr_t address) const {
  return writers_[address - kGlobalBase];
}
Readers& Shadow::readers(uintptr_t address) const {
  return readers_[address - kGlobalBase];
}

uint64_t Shadow::count(const Allocation& allocation, Flag flag) const {
  uint64_t count = 0;
  const uint8_t* flag_of = flags(allocation.begin);
  for (size_t i = 0; i < allocation.bytes; ++i) count += (flag_of[i] & flag) != 0 ? 1 : 0;
  return count;
}

void Shadow::begin_kernel() {
  for (auto& [begin, allocation] : allocations_) {
    if (!allocation.touched) continue;
    allocation.touched = false;
    uint8_t* flag = flags(begin);
    for (size_t i = 0; i < allocation.bytes; ++i) flag[i] &= kLive | kInitialised | kFreed;
  }
}

}  // namespace pelton::cuda::emulator
