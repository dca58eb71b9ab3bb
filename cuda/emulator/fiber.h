// Stacks and the switch between them: Boost.Context's jump, told to ASan. One host thread at a
// time.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <vector>

namespace pelton::cuda::emulator {

// One stack and what is suspended on it. `context` is valid while it is not running.
struct Fiber {
  boost::context::detail::fcontext_t context = nullptr;
  void* bottom = nullptr;
  size_t bytes = 0;
  void* fake_stack = nullptr;  // ASan's
};

// Leaves `from` and continues `to`; returns when somebody switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);
// First thing on a stack that switch_fiber() entered for the first time.
void fiber_entered(boost::context::detail::transfer_t transfer);

// Under ASan: what an abandoned stack left behind is forgotten.
void forget_stack(void* bottom, size_t bytes);

// Stacks of 64 KiB with a guard page below each, reserved as one range; pages come when touched.
class StackArena {
 public:
  StackArena() = default;
  ~StackArena();
  StackArena(const StackArena&) = delete;
  StackArena& operator=(const StackArena&) = delete;

  // At least `count` stacks. May move nothing that is in use: call between blocks.
  void reserve(size_t count);
  // Makes the i-th stack begin at `entry` when it is switched to.
  void prepare(size_t i, Fiber& fiber, void (*entry)(boost::context::detail::transfer_t));
  bool contains(const void* address) const;
  // Whether the address lies in a guard page: a stack that overflowed.
  bool in_guard(const void* address) const;

 private:
  void release();

  char* base_ = nullptr;
  size_t count_ = 0;
};

}  // namespace pelton::cuda::emulator
