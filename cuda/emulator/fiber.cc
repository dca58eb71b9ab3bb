#include "cuda/emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define PELTON_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PELTON_ASAN 1
#endif
#endif
#ifdef PELTON_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace pelton::cuda::emulator {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr size_t kGuardBytes = 4096;
#ifdef PELTON_ASAN
constexpr size_t kStackBytes = 256 << 10;  // red zones between locals
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr size_t kSlotBytes = kStackBytes + kGuardBytes;

// Tops at the same offset in their pages would fall into the same few cache sets.
size_t top_shift(size_t i) {
  return (i % 31) * 128;
}

// On the new stack: notes where the old one stopped.
void arrive(transfer_t transfer, [[maybe_unused]] void* fake_stack) {
  auto* left = static_cast<Fiber*>(transfer.data);
  left->context = transfer.fctx;
#ifdef PELTON_ASAN
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &left->bytes);
  left->bottom = const_cast<void*>(bottom);
#endif
}

}  // namespace

void switch_fiber(Fiber& from, Fiber& to) {
#ifdef PELTON_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
#endif
  const transfer_t transfer = jump_fcontext(to.context, &from);
  arrive(transfer, from.fake_stack);
}

void fiber_entered(transfer_t transfer) {
  arrive(transfer, nullptr);
}

void forget_stack([[maybe_unused]] void* bottom, [[maybe_unused]] size_t bytes) {
#ifdef PELTON_ASAN
  __asan_unpoison_memory_region(bottom, bytes);
#endif
}

StackArena::~StackArena() {
  release();
}

// Others may be given these addresses: what frames left poisoned must not meet them.
void StackArena::release() {
  if (base_ == nullptr) return;
  forget_stack(base_, count_ * kSlotBytes);
  munmap(base_, count_ * kSlotBytes);
  base_ = nullptr;
  count_ = 0;
}

void StackArena::reserve(size_t count) {
  if (count <= count_) return;
  release();
  void* mapped = mmap(nullptr, count * kSlotBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    std::perror("emulator: stacks");
    std::abort();
  }
  base_ = static_cast<char*>(mapped);
  count_ = count;
  for (size_t i = 0; i < count; ++i) mprotect(base_ + i * kSlotBytes, kGuardBytes, PROT_NONE);
}

void StackArena::prepare(size_t i, Fiber& fiber, void (*entry)(transfer_t)) {
  char* bottom = base_ + i * kSlotBytes + kGuardBytes;
  forget_stack(bottom, kStackBytes);
  const size_t bytes = kStackBytes - top_shift(i);
  fiber.bottom = bottom;
  fiber.bytes = bytes;
  fiber.fake_stack = nullptr;
  fiber.context = make_fcontext(bottom + bytes, bytes, entry);
}

bool StackArena::contains(const void* address) const {
  return static_cast<size_t>(static_cast<const char*>(address) - base_) < count_ * kSlotBytes;
}

bool StackArena::in_guard(const void* address) const {
  return contains(address) &&
         static_cast<size_t>(static_cast<const char*>(address) - base_) % kSlotBytes < kGuardBytes;
}

}  // namespace pelton::cuda::emulator
