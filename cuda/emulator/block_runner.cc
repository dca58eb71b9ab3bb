#include "cuda/emulator/block_runner.h"

#include <fmt/format.h>
#include <pelton_device_language.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/emulator/shared_parts.h"
#include "cuda/emulator/tracer.h"

namespace pelton::cuda::emulator {
namespace {

// Between two shared arrays: nothing that belongs to the kernel. A multiple of the 128 bytes of all
// banks, so that it moves no conflict.
constexpr size_t kSharedGap = 128;

size_t round_up(size_t value, size_t to) {
  return (value + to - 1) / to * to;
}

bool same_place(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

}  // namespace

BlockRunner& BlockRunner::of_this_thread() {
  thread_local BlockRunner runner;
  return runner;
}

void BlockRunner::nobody_runs() {
  std::fprintf(stderr, "emulator: device code called outside a kernel\n");
  std::abort();
}

BlockRunner::BlockRunner() : shared_base_(map_shared_part()) {}
BlockRunner::~BlockRunner() {
  unmap_shared_part(shared_base_);
}

bool BlockRunner::run(const Grid& grid, uint3 block, const Schedule& schedule, Fault& fault) {
  prepare(grid, block, schedule);
  BlockRunner* before = running_;
  running_ = this;
  Lane* first = pick();
  switch_to(*first, main_);
  running_ = before;
  if (failed_) {
    stacks_dirty_ = true;
    fault = fault_;
  }
  return !failed_;
}

void BlockRunner::prepare(const Grid& grid, uint3 block, const Schedule& schedule) {
  grid_ = &grid;
  block_ = block;
  schedule_ = schedule;
  const uint64_t linear_block =
      block.x + uint64_t{grid.size.x} * (block.y + uint64_t{grid.size.y} * block.z);
  random_.seed(static_cast<uint32_t>((schedule.seed * 0x9E3779B97F4A7C15u) >> 32) +
               static_cast<uint32_t>(linear_block) * 2654435761u + 1);
  num_threads_ = grid.block.x * grid.block.y * grid.block.z;
  failed_ = false;
  num_done_ = 0;
  runnable_warps_ = 0;
  current_warp_ = 0;
  if (lanes_.size() < num_threads_) {
    lanes_.resize(num_threads_);
    stacks_dirty_ = true;
  }
  if (stacks_dirty_) {
    stacks_.reserve(lanes_.size());
    while (fibers_.size() < lanes_.size()) fibers_.push_back(std::make_unique<Fiber>());
    idle_.clear();
    for (size_t i = fibers_.size(); i-- > 0;) {
      stacks_.prepare(i, *fibers_[i], &BlockRunner::fiber_main);
      idle_.push_back(fibers_[i].get());
    }
    stacks_dirty_ = false;
  }
  for (unsigned i = 0; i < num_threads_; ++i) {
    Lane& lane = lanes_[i];
    lane.linear = i;
    lane.index = {i % grid.block.x, i / grid.block.x % grid.block.y,
                  i / (grid.block.x * grid.block.y)};
    lane.state = LaneState::kFresh;
    lane.fiber = nullptr;
    lane.copies.clear();
    lane.groups.clear();
  }
  for (unsigned w = 0; w * kLanes < num_threads_; ++w) {
    const unsigned lanes = std::min(kLanes, num_threads_ - w * kLanes);
    warps_[w].present = lanes == kLanes ? 0xffffffffu : (1u << lanes) - 1;
    warps_[w].runnable = warps_[w].present;
    warps_[w].done = 0;
    warps_[w].meetings.clear();
    runnable_warps_ |= 1u << w;
  }
  for (Barrier& barrier : barriers_) {
    barrier.expected = barrier.arrived = 0;
    barrier.waiting.clear();
  }
  vote_count = 0;
  shared_places_.clear();
  shared_counted_ = grid.shared_bytes;
  shared_used_ = grid.shared_bytes;
  std::memset(shared_base_, 0xFF, shared_used_);
  blockIdx = block;
  gridDim = grid.size;
  blockDim = grid.block;
  if (Tracer* tracer = Tracer::active()) tracer->begin_block(*this);
}

unsigned BlockRunner::pick_bit(uint32_t bits) {
  switch (schedule_.order) {
    case Order::kForward:
      return static_cast<unsigned>(std::countr_zero(bits));
    case Order::kReverse:
      return 31 - static_cast<unsigned>(std::countl_zero(bits));
    case Order::kRandom:
      break;
  }
  auto skip = static_cast<unsigned>(random_() % static_cast<unsigned>(std::popcount(bits)));
  for (; skip > 0; --skip) bits &= bits - 1;
  return static_cast<unsigned>(std::countr_zero(bits));
}

Lane* BlockRunner::pick() {
  if (runnable_warps_ == 0) return nullptr;
  const bool stay = (runnable_warps_ >> current_warp_ & 1) != 0 &&
                    (schedule_.order != Order::kRandom || random_() % 8 != 0);
  if (!stay) current_warp_ = pick_bit(runnable_warps_);
  return &lanes_[current_warp_ * kLanes + pick_bit(warps_[current_warp_].runnable)];
}

void BlockRunner::activate(Lane& lane) {
  const unsigned w = lane.linear / kLanes;
  warps_[w].runnable &= ~(1u << lane.linear % kLanes);
  if (warps_[w].runnable == 0) runnable_warps_ &= ~(1u << w);
  lane.state = LaneState::kRunning;
  current_ = &lane;
  current_warp_ = w;
  threadIdx = lane.index;
}

void BlockRunner::switch_to(Lane& next, Fiber& from) {
  if (next.fiber == nullptr) {
    next.fiber = idle_.back();
    idle_.pop_back();
  }
  activate(next);
  switch_fiber(from, *next.fiber);
}

void BlockRunner::fiber_main(boost::context::detail::transfer_t transfer) {
  fiber_entered(transfer);
  BlockRunner& runner = current();
  runner.run_lanes();
}

// What a stack does: runs its lane, then takes the next fresh one, so that lanes that never wait
// need no switch; when there is none it becomes idle, and wakes with a new lane.
void BlockRunner::run_lanes() {
  for (;;) {
    Lane& lane = *current_;
    Fiber* fiber = lane.fiber;
    run_body(lane);
    lane.state = LaneState::kDone;
    lane.fiber = nullptr;
    warps_[lane.linear / kLanes].done |= 1u << lane.linear % kLanes;
    ++num_done_;
    if (Tracer* tracer = Tracer::active()) {
      const Warp& warp = warps_[lane.linear / kLanes];
      tracer->end_thread(lane.linear, warp.done == warp.present);
    }
    Lane* next = pick();
    if (next == nullptr) {
      if (num_done_ != num_threads_) report_deadlock();
      idle_.push_back(fiber);
      switch_fiber(*fiber, main_);
    } else if (next->state == LaneState::kFresh) {
      next->fiber = fiber;
      activate(*next);
    } else {
      idle_.push_back(fiber);
      activate(*next);
      switch_fiber(*fiber, *next->fiber);
    }
  }
}

void BlockRunner::run_body(Lane&) {
  std::string thrown;
  try {
    (*grid_->body)();
    return;
  } catch (const std::exception& error) {
    thrown = error.what();
  } catch (...) {
    thrown = "of an unknown type";
  }
  fail(cudaErrorLaunchFailure, "exception", std::move(thrown), Site());
}

void BlockRunner::suspend(const char* what, uint32_t mask, Site site) {
  Lane& lane = *current_;
  lane.state = LaneState::kWaiting;
  lane.waits_for = what;
  lane.wait_mask = mask;
  lane.wait_site = site;
  Lane* next = pick();
  if (next == nullptr) report_deadlock();
  switch_to(*next, *lane.fiber);
}

void BlockRunner::maybe_yield() {
  if (schedule_.order != Order::kRandom || runnable_warps_ == 0 || random_() % 4 != 0) return;
  Lane& lane = *current_;
  Lane* next = pick();
  lane.state = LaneState::kReady;
  warps_[lane.linear / kLanes].runnable |= 1u << lane.linear % kLanes;
  runnable_warps_ |= 1u << lane.linear / kLanes;
  switch_to(*next, *lane.fiber);
}

void BlockRunner::release(unsigned index) {
  Lane& lane = lanes_[index];
  lane.state = LaneState::kReady;
  warps_[index / kLanes].runnable |= 1u << index % kLanes;
  runnable_warps_ |= 1u << index / kLanes;
}

void BlockRunner::barrier(int id, unsigned threads, bool wait, const char* what, Site site) {
  Barrier& barrier = barriers_[static_cast<unsigned>(id)];
  if (barrier.expected == 0) {
    barrier.expected = threads;
    barrier.arrived = 0;
    barrier.site = site;
  } else if (barrier.expected != threads) {
    std::string message = fmt::format("barrier {} is awaited by {} threads at {} and by {} here",
                                      id, barrier.expected, place(barrier.site), threads);
    fail(cudaErrorLaunchFailure, "divergent barrier", std::move(message), site);
  } else if (id == 0 &&
             (barrier.site.line() != site.line() || barrier.site.column() != site.column() ||
              std::strcmp(barrier.site.file_name(), site.file_name()) != 0)) {
    std::string message = fmt::format("{} threads wait at {}, this one came here", barrier.arrived,
                                      place(barrier.site));
    fail(cudaErrorLaunchFailure, "divergent barrier", std::move(message), site);
  }
  ++barrier.arrived;
  Tracer* tracer = Tracer::active();
  if (tracer != nullptr && id != 0) tracer->named_barrier_arrived(id, current_->linear);
  if (barrier.arrived == barrier.expected) {
    barrier.expected = 0;
    if (tracer != nullptr) {
      if (id == 0) {
        tracer->block_barrier();
      } else {
        std::vector<unsigned> released = barrier.waiting;
        if (wait) released.push_back(current_->linear);
        tracer->named_barrier_released(id, released);
      }
    }
    vote_result = vote_count;
    vote_count = 0;
    for (unsigned lane : barrier.waiting) release(lane);
    barrier.waiting.clear();
    if (wait) maybe_yield();
    return;
  }
  if (!wait) return;
  barrier.waiting.push_back(current_->linear);
  suspend(what, 0, site);
}

void BlockRunner::meet(uint32_t mask, const char* what, bool aligned, void* argument,
                       Compute compute, Site site) {
  Warp& warp = this->warp();
  const uint32_t self = 1u << current_->linear % kLanes;
  if ((mask & self) == 0) {
    fail(cudaErrorLaunchFailure, "wrong mask",
         fmt::format("{} with mask {:#010x}, which leaves the calling lane out", what, mask), site);
  }
  if ((mask & ~warp.present) != 0 || (mask & warp.done) != 0) {
    fail(cudaErrorLaunchFailure, "wrong mask",
         fmt::format("{} with mask {:#010x} waits for lanes that have ended or never were "
                     "({:#010x})",
                     what, mask, mask & (~warp.present | warp.done)),
         site);
  }
  warp.arguments[current_->linear % kLanes] = argument;
  if (mask == self) {
    if (compute != nullptr) compute(warp.arguments.data(), mask);
    return;
  }
  size_t i = 0;
  while (i < warp.meetings.size() && warp.meetings[i].mask != mask) ++i;
  if (i == warp.meetings.size()) {
    for (const Meeting& other : warp.meetings) {
      if ((other.mask & mask) != 0) {
        std::string message =
            fmt::format("{} with mask {:#010x}, while lanes wait in {} with mask {:#010x} at {}",
                        what, mask, other.what, other.mask, place(other.site));
        fail(cudaErrorLaunchFailure, "divergent warp", std::move(message), site);
      }
    }
    warp.meetings.push_back({mask, 0, what, site});
  }
  Meeting& meeting = warp.meetings[i];
  if (meeting.what != what || (aligned && !same_place(meeting.site, site))) {
    std::string message = fmt::format("{} with mask {:#010x}, while lanes wait in {} at {}", what,
                                      mask, meeting.what, place(meeting.site));
    fail(cudaErrorLaunchFailure, "divergent warp", std::move(message), site);
  }
  meeting.arrived |= self;
  if (meeting.arrived != mask) {
    suspend(what, mask, site);
    return;
  }
  warp.meetings.erase(warp.meetings.begin() + static_cast<ptrdiff_t>(i));
  if (Tracer* tracer = Tracer::active()) {
    tracer->warp_met(current_->linear / kLanes, mask, warp.present, compute == nullptr);
  }
  if (compute != nullptr) compute(warp.arguments.data(), mask);
  const unsigned first = current_->linear / kLanes * kLanes;
  for (uint32_t rest = mask & ~self; rest != 0; rest &= rest - 1) {
    release(first + static_cast<unsigned>(std::countr_zero(rest)));
  }
  maybe_yield();
}

void* BlockRunner::shared_array(const SharedArray& array) {
  for (const SharedPlace& known : shared_places_) {
    if (known.array == &array) return shared_base_ + known.offset;
  }
  const size_t offset = round_up(shared_used_ == 0 ? 0 : shared_used_ + kSharedGap,
                                 std::max<size_t>(kSharedGap, array.alignment));
  const CardLimits limits = card_limits();
  const size_t counted = shared_counted_ + array.bytes;
  const size_t fixed = counted - grid_->shared_bytes;
  const size_t limit = grid_->shared_bytes > limits.shared_per_block ? limits.shared_per_block_optin
                                                                     : limits.shared_per_block;
  if (fixed > limits.shared_per_block || counted > limit) {
    fail(cudaErrorInvalidValue, "too much shared memory",
         fmt::format("{} bytes of arrays and {} dynamic, the card has {}", fixed,
                     grid_->shared_bytes, limit),
         Site());
  }
  shared_counted_ = counted;
  shared_used_ = offset + array.bytes;
  std::memset(shared_base_ + offset, 0xFF, array.bytes);
  shared_places_.push_back({&array, offset});
  return shared_base_ + offset;
}

}  // namespace pelton::cuda::emulator
