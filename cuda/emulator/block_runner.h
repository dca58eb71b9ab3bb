// Runs one block of a grid: its threads are fibers on one host thread, switched where they wait for
// each other. One runner a host thread, kept with its stacks; not thread-safe.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda/emulator/fault.h"
#include "cuda/emulator/fiber.h"
#include "cuda/emulator/lane_language.h"
#include "cuda/emulator/settings.h"

namespace pelton::cuda::emulator {

inline constexpr unsigned kLanes = 32;
inline constexpr unsigned kMaxThreads = 1024;

struct Grid {
  std::string name;
  dim3 size;
  dim3 block;
  size_t shared_bytes = 0;
  const std::function<void()>* body = nullptr;
};

struct AsyncCopy {
  void* target;
  const void* source;
  int bytes;
  bool valid;
  Site site;
};

enum class LaneState : uint8_t { kFresh, kReady, kRunning, kWaiting, kDone };

struct Lane {
  uint3 index{};
  unsigned linear = 0;
  LaneState state = LaneState::kFresh;
  Fiber* fiber = nullptr;
  const char* waits_for = nullptr;  // "__syncthreads", "__shfl_sync", ...
  uint32_t wait_mask = 0;           // of a warp's meeting
  Site wait_site;
  std::vector<AsyncCopy> copies;  // oldest first
  std::vector<size_t> groups;     // sizes of the committed groups at the front of `copies`
};

// Lanes of a warp that wait for each other under one mask.
struct Meeting {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  const char* what = nullptr;
  Site site;
};

struct Warp {
  uint32_t present = 0;
  uint32_t runnable = 0;
  uint32_t done = 0;
  std::vector<Meeting> meetings;
  std::array<void*, kLanes> arguments{};
};

struct Barrier {
  unsigned expected = 0;  // 0: nobody has come
  unsigned arrived = 0;
  Site site;
  std::vector<unsigned> waiting;
};

std::string place(const Site& site);  // "file:line:column"

class BlockRunner {
 public:
  static BlockRunner& of_this_thread();
  // The runner whose block runs on this host thread now; a fault if none does.
  static BlockRunner& current() {
    if (running_ == nullptr) [[unlikely]]
      nobody_runs();
    return *running_;
  }
  static bool is_running() { return running_ != nullptr; }

  BlockRunner();
  ~BlockRunner();

  // Runs the block to its end. False after a fault, which is then in `fault`.
  bool run(const Grid& grid, uint3 block, const Schedule& schedule, Fault& fault);

  // Called by lanes.
  void barrier(int id, unsigned threads, bool wait, const char* what, Site site);
  // All lanes of `mask` meet; the last one runs compute(arguments, mask). `aligned`: all at one
  // place.
  using Compute = void (*)(void* const* arguments, uint32_t mask);
  void meet(uint32_t mask, const char* what, bool aligned, void* argument, Compute compute,
            Site site);
  void* shared_array(const SharedArray& array);
  void* dynamic_shared() { return shared_base_; }
  // Whether the bytes at an offset of the shared part lie in one array; and where they lie, in
  // words.
  bool in_shared_array(size_t offset, size_t bytes) const;
  std::string describe_shared(size_t offset) const;
  // A point where another lane may go first (in random order).
  void maybe_yield();
  [[noreturn]] void fail(cudaError_t code, const char* kind, std::string&& message, Site site);

  Lane& lane() { return *current_; }
  Warp& warp() { return warps_[current_->linear / kLanes]; }
  unsigned num_threads() const { return num_threads_; }
  const Grid& grid() const { return *grid_; }
  uint3 block_index() const { return block_; }
  // "kernel NAME, block (x, y, z), thread (x, y, z)"
  std::string where() const;
  StackArena& stacks() { return stacks_; }
  // Votes of __syncthreads_count and its kin.
  unsigned vote_count = 0;
  unsigned vote_result = 0;

 private:
  struct SharedPlace {
    const SharedArray* array;
    size_t offset;
  };

  [[noreturn]] static void nobody_runs();
  static void fiber_main(boost::context::detail::transfer_t transfer);
  void prepare(const Grid& grid, uint3 block, const Schedule& schedule);
  void run_lanes();
  void run_body(Lane& lane);
  Lane* pick();
  unsigned pick_bit(uint32_t bits);
  void activate(Lane& lane);
  // The current lane waits: others run until it is released.
  void suspend(const char* what, uint32_t mask, Site site);
  void switch_to(Lane& next, Fiber& from);
  void release(unsigned lane);
  [[noreturn]] void report_deadlock();
  std::string describe_waiting() const;
  void record_fault(cudaError_t code, const char* kind, std::string message, Site site);
  void record_deadlock();

  inline static constinit thread_local BlockRunner* running_ = nullptr;
  const Grid* grid_ = nullptr;
  uint3 block_{};
  unsigned num_threads_ = 0;
  Schedule schedule_;
  std::minstd_rand random_;
  std::vector<Lane> lanes_;
  std::array<Warp, kMaxThreads / kLanes> warps_;
  uint32_t runnable_warps_ = 0;
  unsigned current_warp_ = 0;
  unsigned num_done_ = 0;
  Lane* current_ = nullptr;
  std::array<Barrier, 16> barriers_;

  StackArena stacks_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  bool stacks_dirty_ = true;
  Fiber main_;

  char* shared_base_ = nullptr;
  size_t shared_used_ = 0;
  size_t shared_counted_ = 0;
  std::vector<SharedPlace> shared_places_;

  Fault fault_;
  bool failed_ = false;
};

}  // namespace pelton::cuda::emulator
