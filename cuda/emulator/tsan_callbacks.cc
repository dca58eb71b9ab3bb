// What code compiled with -fsanitize=thread calls before each access. These stand in for
// ThreadSanitizer's own run time, which is not linked; the return address tells the instruction.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/emulator/address_space.h"
#include "cuda/emulator/block_runner.h"
#include "cuda/emulator/tracer.h"

namespace {

using pelton::cuda::emulator::AccessKind;
using pelton::cuda::emulator::BlockRunner;
using pelton::cuda::emulator::is_global;
using pelton::cuda::emulator::is_shared;
using pelton::cuda::emulator::Shadow;
using pelton::cuda::emulator::Tracer;

// Allocations are known from the program's start on, before anybody traces.
[[maybe_unused]] const bool watching = [] {
  pelton::cuda::emulator::watch_device_memory(&Shadow::get());
  return true;
}();

inline void report(const void* address, size_t bytes, AccessKind kind, size_t alignment,
                   const void* instruction) {
  if (!is_global(address) && !is_shared(address)) return;  // registers and stack, mostly
  if (!BlockRunner::is_running()) return;
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
    pelton::cuda::emulator::check_aligned(address, alignment, pelton::cuda::emulator::Site());
  }
  if (Tracer* tracer = Tracer::active()) {
    tracer->access(reinterpret_cast<uintptr_t>(address), bytes, kind, instruction);
  }
}

}  // namespace

#define PELTON_HERE __builtin_return_address(0)
#define PELTON_ACCESS(bytes)                                  \
  void __tsan_read##bytes(void* p) {                          \
    report(p, bytes, AccessKind::kRead, bytes, PELTON_HERE);  \
  }                                                           \
  void __tsan_write##bytes(void* p) {                         \
    report(p, bytes, AccessKind::kWrite, bytes, PELTON_HERE); \
  }                                                           \
  void __tsan_unaligned_read##bytes(void* p) {                \
    report(p, bytes, AccessKind::kRead, 1, PELTON_HERE);      \
  }                                                           \
  void __tsan_unaligned_write##bytes(void* p) {               \
    report(p, bytes, AccessKind::kWrite, 1, PELTON_HERE);     \
  }                                                           \
  void __tsan_volatile_read##bytes(void* p) {                 \
    report(p, bytes, AccessKind::kRead, bytes, PELTON_HERE);  \
  }                                                           \
  void __tsan_volatile_write##bytes(void* p) {                \
    report(p, bytes, AccessKind::kWrite, bytes, PELTON_HERE); \
  }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
PELTON_ACCESS(1)
PELTON_ACCESS(2)
PELTON_ACCESS(4)
PELTON_ACCESS(8)
PELTON_ACCESS(16)
void __tsan_read_range(void* p, size_t bytes) {
  report(p, bytes, AccessKind::kRead, 1, PELTON_HERE);
}
void __tsan_write_range(void* p, size_t bytes) {
  report(p, bytes, AccessKind::kWrite, 1, PELTON_HERE);
}
void* __tsan_memcpy(void* target, const void* source, size_t bytes) {
  report(source, bytes, AccessKind::kRead, 1, PELTON_HERE);
  report(target, bytes, AccessKind::kWrite, 1, PELTON_HERE);
  return std::memcpy(target, source, bytes);
}
void* __tsan_memmove(void* target, const void* source, size_t bytes) {
  report(source, bytes, AccessKind::kRead, 1, PELTON_HERE);
  report(target, bytes, AccessKind::kWrite, 1, PELTON_HERE);
  return std::memmove(target, source, bytes);
}
void* __tsan_memset(void* target, int value, size_t bytes) {
  report(target, bytes, AccessKind::kWrite, 1, PELTON_HERE);
  return std::memset(target, value, bytes);
}
// Guards of static locals in host code.
int __tsan_atomic8_load(const volatile uint8_t* p, int) {
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

}  // extern "C"
