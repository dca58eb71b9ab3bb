// Barriers, fences, asynchronous copies, shared arrays and alignment, as kernels call them.
#include <fmt/format.h>

#include <atomic>
#include <cstring>

#include "cuda/emulator/block_runner.h"
#include "cuda/emulator/lane_language.h"
#include "cuda/emulator/tracer.h"

namespace pelton::cuda::emulator {

void syncthreads(Site site) {
  BlockRunner& runner = BlockRunner::current();
  runner.barrier(0, runner.num_threads(), true, "__syncthreads", site);
}

int syncthreads_vote(BarrierVote vote, bool predicate, Site site) {
  BlockRunner& runner = BlockRunner::current();
  if (predicate) ++runner.vote_count;
  runner.barrier(0, runner.num_threads(), true, "__syncthreads_count", site);
  const unsigned count = runner.vote_result;
  switch (vote) {
    case BarrierVote::kCount:
      return static_cast<int>(count);
    case BarrierVote::kAnd:
      return count == runner.num_threads();
    case BarrierVote::kOr:
      return count > 0;
  }
  return 0;
}

namespace {

void named_barrier(int id, int threads, bool wait, Site site) {
  BlockRunner& runner = BlockRunner::current();
  if (id < 1 || id > 15 || threads <= 0 || threads % static_cast<int>(kLanes) != 0 ||
      static_cast<unsigned>(threads) > runner.num_threads()) {
    runner.fail(
        cudaErrorLaunchFailure, "wrong barrier",
        fmt::format("named barrier {} for {} threads of {}", id, threads, runner.num_threads()),
        site);
  }
  runner.barrier(id, static_cast<unsigned>(threads), wait, "named barrier", site);
}

}  // namespace

void named_barrier_sync(int id, int threads, Site site) {
  named_barrier(id, threads, true, site);
}
void named_barrier_arrive(int id, int threads, Site site) {
  named_barrier(id, threads, false, site);
}

void fence(Site) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  BlockRunner& runner = BlockRunner::current();
  if (Tracer* tracer = Tracer::active()) tracer->fenced(runner.lane().linear);
  runner.maybe_yield();
}

void check_aligned(const void* pointer, size_t bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes == 0) [[likely]]
    return;
  BlockRunner::current().fail(cudaErrorMisalignedAddress, "misaligned access",
                              fmt::format("{} bytes at {}", bytes, pointer), site);
}

void async_copy(void* shared, const void* global, int bytes, bool valid, Site site) {
  BlockRunner& runner = BlockRunner::current();
  check_aligned(shared, static_cast<size_t>(bytes), site);
  check_aligned(global, static_cast<size_t>(bytes), site);
  if (Tracer* tracer = Tracer::active()) {
    const void* instruction = __builtin_return_address(0);
    const auto count = static_cast<size_t>(bytes);
    if (valid) {
      tracer->access(reinterpret_cast<uintptr_t>(global), count, AccessKind::kAsyncRead,
                     instruction);
    }
    tracer->access(reinterpret_cast<uintptr_t>(shared), count, AccessKind::kAsyncWrite,
                   instruction);
  }
  std::memset(shared, 0xFF, static_cast<size_t>(bytes));
  runner.lane().copies.push_back({shared, global, bytes, valid, site});
}

void async_commit() {
  Lane& lane = BlockRunner::current().lane();
  size_t committed = 0;
  for (size_t group : lane.groups) committed += group;
  lane.groups.push_back(lane.copies.size() - committed);
}

void async_wait(int groups_left, Site) {
  Lane& lane = BlockRunner::current().lane();
  if (lane.groups.size() <= static_cast<size_t>(groups_left)) return;
  const size_t finished = lane.groups.size() - static_cast<size_t>(groups_left);
  size_t count = 0;
  for (size_t i = 0; i < finished; ++i) count += lane.groups[i];
  for (size_t i = 0; i < count; ++i) {
    const AsyncCopy& copy = lane.copies[i];
    if (copy.valid) {
      std::memcpy(copy.target, copy.source, static_cast<size_t>(copy.bytes));
    } else {
      std::memset(copy.target, 0, static_cast<size_t>(copy.bytes));
    }
    if (Tracer* tracer = Tracer::active()) {
      tracer->async_landed(copy.target, static_cast<size_t>(copy.bytes));
    }
  }
  lane.copies.erase(lane.copies.begin(), lane.copies.begin() + static_cast<ptrdiff_t>(count));
  lane.groups.erase(lane.groups.begin(), lane.groups.begin() + static_cast<ptrdiff_t>(finished));
}

void* shared_array(const SharedArray& array) {
  return BlockRunner::current().shared_array(array);
}
void* dynamic_shared() {
  return BlockRunner::current().dynamic_shared();
}

void trap(Site site) {
  BlockRunner::current().fail(cudaErrorLaunchFailure, "trap", "__trap()", site);
}

}  // namespace pelton::cuda::emulator
