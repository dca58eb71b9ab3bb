// The CPU backend: float32 between the ops, weights quantised as the file has them, the reference
// that every other backend is held to. On one machine results depend neither on the number of
// threads nor (CpuActivations::kInt8 over BF16 weights excepted) on the instruction set.
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

// How matrix products see their activations. kInt8: over weights in block formats, rounded to 8
// bits with a scale for each 32 of a token; over BF16 weights, to bf16 where the processor
// multiplies it.
enum class CpuActivations : uint8_t { kF32, kInt8 };
// "f32", "int8"
StatusOr<CpuActivations> cpu_activations_from_name(std::string_view name);

struct CpuOptions {
  int threads = 0;  // 0: one for each physical core that the process may use; without `pool` only
  CpuIsa isa = CpuIsa::kAuto;  // FAILED_PRECONDITION where the processor lacks it
  CpuActivations activations = CpuActivations::kF32;
  std::shared_ptr<cpu::ThreadPool> pool;  // shared with other backends of the process; null: own
};

// threads as in CpuOptions. pin: each thread stays on a core of its own.
std::shared_ptr<cpu::ThreadPool> make_cpu_pool(int threads, bool pin = false);
StatusOr<std::unique_ptr<Backend>> make_cpu_backend(const CpuOptions& options);

}  // namespace pelton
