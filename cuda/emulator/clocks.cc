#include "cuda/emulator/clocks.h"

#include <algorithm>
#include <bit>

namespace pelton::cuda::emulator {

void Clocks::begin_kernel() {
  kernel_begin_ = ++epoch_;
  block_begin_ = kernel_begin_;
  passed_.clear();
  acquired_.clear();
}

void Clocks::begin_block(unsigned num_threads) {
  block_begin_ = ++epoch_;
  num_threads_ = num_threads;
  clock_.assign(num_threads, 1);
  known_.assign(num_threads, {});
  any_named_ = false;
  fenced_.assign(num_threads, 0);
  any_fence_ = false;
  acquired_.clear();
}

void Clocks::warp_barrier(unsigned warp, uint32_t mask) {
  std::array<uint32_t, 32> joined{};
  const unsigned first = warp * 32;
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    const auto& known = known_[first + lane];
    for (unsigned i = 0; i < 32; ++i) joined[i] = std::max(joined[i], known[i]);
    joined[lane] = std::max(joined[lane], clock_[first + lane]);
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    known_[first + lane] = joined;
    ++clock_[first + lane];
  }
}

void Clocks::arrive(int barrier, unsigned thread) {
  if (!any_named_) {
    any_named_ = true;
    known_far_.assign((num_threads_ + 31) / 32, std::vector<uint32_t>(num_threads_, 0));
    for (auto& gathered : gathered_) gathered.assign(num_threads_, 0);
  }
  auto& gathered = gathered_[static_cast<size_t>(barrier)];
  const auto& far = known_far_[thread / 32];
  for (unsigned i = 0; i < num_threads_; ++i) gathered[i] = std::max(gathered[i], far[i]);
  const unsigned first = thread / 32 * 32;
  for (unsigned lane = 0; lane < 32 && first + lane < num_threads_; ++lane) {
    gathered[first + lane] = std::max(gathered[first + lane], known_[thread][lane]);
  }
  gathered[thread] = clock_[thread];
  ++clock_[thread];
}

void Clocks::release(int barrier, const std::vector<unsigned>& threads) {
  auto& gathered = gathered_[static_cast<size_t>(barrier)];
  for (unsigned thread : threads) {
    auto& far = known_far_[thread / 32];
    for (unsigned i = 0; i < num_threads_; ++i) far[i] = std::max(far[i], gathered[i]);
    const unsigned first = thread / 32 * 32;
    for (unsigned lane = 0; lane < 32 && first + lane < num_threads_; ++lane) {
      known_[thread][lane] = std::max(known_[thread][lane], gathered[first + lane]);
    }
  }
  std::fill(gathered.begin(), gathered.end(), 0);
}

void Clocks::fence(unsigned thread) {
  if (!any_fence_) fenced_known_.assign(num_threads_, {});
  any_fence_ = true;
  fenced_[thread] = now(thread).bits;
  fenced_known_[thread] = known_[thread];
  ++clock_[thread];
}

void Clocks::atomic(uintptr_t address, unsigned thread) {
  std::vector<Release>& passed = passed_[address];
  for (const Release& release : passed) {
    if (release.block_begin != block_begin_) {
      acquired_.emplace(release.block_begin, Acquired{release, now(thread)});
    }
  }
  ++clock_[thread];
  if (!any_fence_) return;
  // Threads that fenced, and whose fence is ordered before this atomic, pass on what they did
  // before it; this thread's own fence also passes on what was ordered before that.
  Release release;
  release.block_begin = block_begin_;
  release.up_to.assign(num_threads_, 0);
  bool any = false;
  for (unsigned other = 0; other < num_threads_; ++other) {
    const Stamp fence(fenced_[other]);
    if (fence.none() || !ordered(fence, thread)) continue;
    any = true;
    release.epoch = std::max(release.epoch, fence.epoch());
    release.up_to[other] = std::max(release.up_to[other], fence.bits);
    const unsigned first = other / 32 * 32;
    for (unsigned lane = 0; lane < 32 && first + lane < num_threads_; ++lane) {
      const uint32_t clock = fenced_known_[other][lane];
      if (clock == 0) continue;
      const Stamp covered(fence.epoch(), first + lane, clock, true);
      release.up_to[first + lane] = std::max(release.up_to[first + lane], covered.bits);
    }
  }
  if (any) passed.push_back(std::move(release));
}

bool Clocks::covers(const Release& release, Stamp stamp) const {
  if (stamp.epoch() < release.epoch) return true;
  return stamp.thread() < release.up_to.size() &&
         (stamp.bits >> 1) <= release.up_to[stamp.thread()] >> 1;
}

bool Clocks::ordered(Stamp stamp, unsigned thread) const {
  if (stamp.epoch() < kernel_begin_) return true;
  if (stamp.epoch() < block_begin_) {
    // Another block: the releases of the one that the stamp's epoch falls into.
    auto after = acquired_.upper_bound(stamp.epoch());
    if (after == acquired_.begin()) return false;
    const uint32_t block = std::prev(after)->first;
    for (auto it = acquired_.lower_bound(block); it != after; ++it) {
      if (covers(it->second.release, stamp) && ordered(it->second.at, thread)) return true;
    }
    return false;
  }
  if (stamp.epoch() < epoch_) return true;
  const unsigned other = stamp.thread();
  if (other == thread) return true;
  if (other / 32 == thread / 32 && stamp.clock() <= known_[thread][other % 32]) return true;
  return any_named_ && stamp.clock() <= known_far_[thread / 32][other];
}

}  // namespace pelton::cuda::emulator
