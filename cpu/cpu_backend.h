// The CPU backend: float32 activations, weights quantised as the file has them, the reference that
// every other backend is held to. On one machine its results depend neither on the number of
// threads nor on the instruction set (the C library's cos, sin, exp and log may differ between
// machines).
#pragma once

#include <memory>

#include "backend/backend.h"
#include "core/status.h"

namespace pelton {

namespace cpu {
class ThreadPool;
}

enum class CpuIsa : uint8_t { kAuto, kScalar, kAvx2, kAvx512, kNeon };
// "auto", "scalar", "avx2", "avx512", "neon"
StatusOr<CpuIsa> cpu_isa_from_name(std::string_view name);

struct CpuOptions {
  int threads = 0;  // 0: one for each physical core that the process may use; without `pool` only
  CpuIsa isa = CpuIsa::kAuto;             // FAILED_PRECONDITION where the processor lacks it
  std::shared_ptr<cpu::ThreadPool> pool;  // shared with other backends of the process; null: own
};

std::shared_ptr<cpu::ThreadPool> make_cpu_pool(int threads);  // threads as in CpuOptions
StatusOr<std::unique_ptr<Backend>> make_cpu_backend(const CpuOptions& options);

}  // namespace pelton
