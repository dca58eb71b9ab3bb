// Which accesses of a grid's threads are ordered by barriers, __syncwarp, and fences with atomics:
// Lamport's happens-before with one clock a thread, cut short at block-wide barriers.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

namespace pelton::cuda::emulator {

// When an access happened: the epoch (it grows with each block and each block-wide barrier, over
// all kernels), the thread within its block, the thread's clock, and whether it was an atomic.
struct Stamp {
  uint64_t bits = 0;
  Stamp() = default;
  explicit Stamp(uint64_t bits) : bits(bits) {}
  Stamp(uint32_t epoch, unsigned thread, uint32_t clock, bool atomic)
      : bits(uint64_t{epoch} << 32 | uint64_t{thread} << 22 | (clock & 0x1fffff) << 1 |
             (atomic ? 1 : 0)) {}
  uint32_t epoch() const { return static_cast<uint32_t>(bits >> 32); }
  unsigned thread() const { return static_cast<unsigned>(bits >> 22) & 1023; }
  uint32_t clock() const { return static_cast<uint32_t>(bits >> 1) & 0x1fffff; }
  bool atomic() const { return (bits & 1) != 0; }
  bool none() const { return bits == 0; }
};

class Clocks {
 public:
  void begin_kernel();
  void begin_block(unsigned num_threads);
  void block_barrier() { ++epoch_; }
  // Of one warp: all lanes of `mask` have ordered their accesses.
  void warp_barrier(unsigned warp, uint32_t mask);
  // Named barriers: each thread that comes, then all that waited go on.
  void arrive(int barrier, unsigned thread);
  void release(int barrier, const std::vector<unsigned>& threads);
  void fence(unsigned thread);
  // An atomic on global memory: passes on what was fenced, takes over what others passed on.
  void atomic(uintptr_t address, unsigned thread);

  Stamp now(unsigned thread, bool atomic = false) const {
    return {epoch_, thread, clock_[thread], atomic};
  }
  // Whether what happened at `stamp` is before everything that `thread` does from here on.
  bool ordered(Stamp stamp, unsigned thread) const;
  bool in_this_block(Stamp stamp) const { return stamp.epoch() >= block_begin_; }
  bool in_this_kernel(Stamp stamp) const { return stamp.epoch() >= kernel_begin_; }

 private:
  // What a block passed on: for each thread the last access that is covered.
  struct Release {
    uint32_t block_begin = 0;
    uint32_t epoch = 0;           // everything of an earlier epoch of the block
    std::vector<uint64_t> up_to;  // by thread: its stamp
  };
  struct Acquired {
    Release release;
    Stamp at;
  };
  bool covers(const Release& release, Stamp stamp) const;

  // Grows for the process's life: marks of earlier traces lie before this one.
  inline static uint32_t epoch_ = 1;
  uint32_t kernel_begin_ = 1;
  uint32_t block_begin_ = 1;
  unsigned num_threads_ = 0;
  std::vector<uint32_t> clock_;                   // [thread]
  std::vector<std::array<uint32_t, 32>> known_;   // [thread][lane of its warp]
  std::vector<std::vector<uint32_t>> known_far_;  // [warp][thread]: by named barriers
  bool any_named_ = false;
  std::array<std::vector<uint32_t>, 16> gathered_;  // [barrier][thread]
  std::vector<uint64_t> fenced_;                    // [thread]: stamp of its last fence
  std::vector<std::array<uint32_t, 32>> fenced_known_;
  bool any_fence_ = false;
  std::unordered_map<uintptr_t, std::vector<Release>> passed_;  // by the atomic's address
  std::multimap<uint32_t, Acquired> acquired_;                  // by the releasing block's begin
};

}  // namespace pelton::cuda::emulator
