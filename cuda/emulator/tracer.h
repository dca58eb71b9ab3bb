// The trace's inner side: the block runner, the primitives and the instrumented code report here.
// One at a time, on the host thread that runs the blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cuda/emulator/clocks.h"
#include "cuda/emulator/shadow.h"
#include "cuda/emulator/trace.h"
#include "cuda/emulator/traffic.h"

namespace pelton::cuda::emulator {

class BlockRunner;

class Tracer {
 public:
  // Null: nobody traces.
  static Tracer* active() { return active_; }
  static void set_active(Tracer* tracer) { active_ = tracer; }

  void begin_kernel(const std::string& name);
  void end_kernel();
  void begin_block(BlockRunner& runner);
  void end_thread(unsigned thread, bool last_of_warp);

  // `instruction`: a return address into the kernel's code.
  void access(uintptr_t address, size_t bytes, AccessKind kind, const void* instruction);
  void async_landed(void* target, size_t bytes);

  void block_barrier();
  void named_barrier_arrived(int id, unsigned thread);
  void named_barrier_released(int id, const std::vector<unsigned>& threads);
  void warp_met(unsigned warp, uint32_t mask, uint32_t present, bool orders_memory);
  void fenced(unsigned thread);
  void count_mma() { ++counts().mma; }
  void count_ldmatrix() { ++counts().ldmatrix; }

  TraceReport report() const;

 private:
  KernelCounts& counts() { return *counts_; }
  void access_global(uintptr_t address, size_t bytes, AccessKind kind, uint32_t place);
  void access_shared(uintptr_t address, size_t bytes, AccessKind kind, uint32_t place);
  void check_bounds(uintptr_t address, size_t bytes, bool write, uint32_t place);
  // One byte's race check, and the mark of this access.
  void check_race(uintptr_t address, Mark& writer, Readers* readers, AccessKind kind, Mark mark);
  void race(uintptr_t address, const Mark& earlier, bool earlier_write, bool now_write,
            uint32_t place);
  void find(const char* kind, uint32_t place, uint32_t other_place, const std::string& message);
  std::string describe(uintptr_t address) const;

  inline static constinit Tracer* active_ = nullptr;

  BlockRunner* runner_ = nullptr;
  Clocks clocks_;
  Traffic traffic_;
  std::map<std::string, KernelCounts> kernels_;
  KernelCounts* counts_ = nullptr;
  struct FindingKey {
    std::string kind;
    std::string kernel;
    uint32_t place;
    uint32_t other_place;
    auto operator<=>(const FindingKey&) const = default;
  };
  std::map<FindingKey, size_t> finding_index_;
  std::vector<Finding> findings_;
  // Shared memory of the one host thread that traces, by offset.
  std::vector<Mark> shared_writers_;
  std::vector<Readers> shared_readers_;
  std::vector<uint8_t> shared_pending_;  // a copy is under way
};

// Of an instruction: its distance from where the program is loaded, and back to words.
uint32_t place_of(const void* instruction);
std::string describe_place(uint32_t place);  // "function, file:line"

}  // namespace pelton::cuda::emulator
