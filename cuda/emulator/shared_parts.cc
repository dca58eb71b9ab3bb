#include "cuda/emulator/shared_parts.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "cuda/emulator/address_space.h"

namespace pelton::cuda::emulator {
namespace {

// Which parts of the shared range belong to a living host thread.
struct SharedParts {
  std::mutex mutex;
  std::array<bool, kSharedParts> taken{};
};
SharedParts& shared_parts() {
  static auto* parts = new SharedParts;  // threads may end after the program's statics
  return *parts;
}

}  // namespace

char* map_shared_part() {
  std::lock_guard lock(shared_parts().mutex);
  auto& taken = shared_parts().taken;
  const auto free = std::find(taken.begin(), taken.end(), false);
  if (free == taken.end()) {
    std::fprintf(stderr, "emulator: more than %zu host threads run blocks\n", kSharedParts);
    std::abort();
  }
  *free = true;
  const auto part = static_cast<size_t>(free - taken.begin());
  void* wanted = reinterpret_cast<void*>(kSharedBase + part * kSharedStride);
  void* mapped = mmap(wanted, kSharedStride, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (mapped != wanted) {
    std::perror("emulator: shared memory");
    std::abort();
  }
  return static_cast<char*>(mapped);
}

void unmap_shared_part(char* base) {
  munmap(base, kSharedStride);
  std::lock_guard lock(shared_parts().mutex);
  shared_parts().taken[(reinterpret_cast<uintptr_t>(base) - kSharedBase) / kSharedStride] = false;
}

}  // namespace pelton::cuda::emulator
