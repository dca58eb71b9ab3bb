// Atomics on global and shared memory: blocks run on several host threads, so they are the host's.
#include <algorithm>
#include <atomic>

#include "cuda/emulator/block_runner.h"
#include "cuda/emulator/lane_language.h"
#include "cuda/emulator/tracer.h"

namespace pelton::cuda::emulator {
namespace {

template <class T>
void begin(T* word, Site site, const void* instruction) {
  check_aligned(word, sizeof(T), site);
  BlockRunner::current().maybe_yield();
  if (Tracer* tracer = Tracer::active()) {
    tracer->access(reinterpret_cast<uintptr_t>(word), sizeof(T), AccessKind::kAtomic, instruction);
  }
}

template <class T>
T apply(Atomic operation, T before, T value) {
  switch (operation) {
    case Atomic::kAdd:
      return static_cast<T>(before + value);
    case Atomic::kMin:
      return std::min(before, value);
    case Atomic::kMax:
      return std::max(before, value);
    case Atomic::kAnd:
      return before & value;
    case Atomic::kOr:
      return before | value;
    case Atomic::kXor:
      return before ^ value;
    case Atomic::kExchange:
      return value;
  }
  return before;
}

template <class T, class Next>
T update(T* word, Site site, const void* instruction, Next next) {
  begin(word, site, instruction);
  std::atomic_ref<T> atom(*word);
  T before = atom.load();
  while (!atom.compare_exchange_weak(before, next(before))) {
  }
  return before;
}

template <class T>
T compare_exchange(T* word, T expected, T value, Site site, const void* instruction) {
  begin(word, site, instruction);
  std::atomic_ref<T>(*word).compare_exchange_strong(expected, value);
  return expected;
}

}  // namespace

// In the functions below: the instruction in the kernel.
#define PELTON_CALLER __builtin_return_address(0)

uint32_t atomic_unsigned(uint32_t* word, Atomic operation, uint32_t value, Site site) {
  return update(word, site, PELTON_CALLER,
                [&](uint32_t before) { return apply(operation, before, value); });
}
int32_t atomic_signed(int32_t* word, Atomic operation, int32_t value, Site site) {
  return update(word, site, PELTON_CALLER, [&](int32_t before) {
    if (operation != Atomic::kAdd) return apply(operation, before, value);
    return static_cast<int32_t>(static_cast<uint32_t>(before) + static_cast<uint32_t>(value));
  });
}
uint64_t atomic_unsigned64(uint64_t* word, Atomic operation, uint64_t value, Site site) {
  return update(word, site, PELTON_CALLER,
                [&](uint64_t before) { return apply(operation, before, value); });
}
float atomic_add_float(float* word, float value, Site site) {
  return update(word, site, PELTON_CALLER, [&](float before) { return before + value; });
}
double atomic_add_double(double* word, double value, Site site) {
  return update(word, site, PELTON_CALLER, [&](double before) { return before + value; });
}
uint32_t atomic_compare_exchange(uint32_t* word, uint32_t expected, uint32_t value, Site site) {
  return compare_exchange(word, expected, value, site, PELTON_CALLER);
}
uint64_t atomic_compare_exchange64(uint64_t* word, uint64_t expected, uint64_t value, Site site) {
  return compare_exchange(word, expected, value, site, PELTON_CALLER);
}

}  // namespace pelton::cuda::emulator
