// Compiled once without a card and once with (PELTON_WITH_CUDA): see server/CMakeLists.txt.
#include "server/model_host_device.h"

#include <cstdlib>

#include "core/dtype.h"
#include "cpu/cpu_backend.h"
#if PELTON_WITH_CUDA
#include "cuda/cuda_backend.h"
#include "server/cache_folder.h"
#endif

namespace pelton {
namespace {

StatusOr<std::unique_ptr<Backend>> make_cpu(const Options& options, SharedDevices& shared) {
  CpuOptions cpu;
  cpu.threads = options.threads;
  PELTON_ASSIGN_OR_RETURN(cpu.isa, cpu_isa_from_name(options.cpu_isa));
  PELTON_ASSIGN_OR_RETURN(cpu.activations, cpu_activations_from_name(options.activations));
  if (shared.cpu_pool == nullptr) shared.cpu_pool = make_cpu_pool(options.threads, options.cpu_pin);
  cpu.pool = shared.cpu_pool;
  return make_cpu_backend(cpu);
}

#if PELTON_WITH_CUDA
CudaOptions cuda_options(const Options& options) {
  CudaOptions cuda;
  cuda.memory_utilization = options.gpu_memory_utilization;
  cuda.activations = options.dtype == "f16" ? DType::kF16 : DType::kBF16;
  cuda.batch_invariant = options.batch_invariant;
  cuda.graphs = !options.enforce_eager;
  cuda.cache_folder = cache_folder(std::getenv("XDG_CACHE_HOME"), std::getenv("HOME"));
  return cuda;
}
#endif

}  // namespace

StatusOr<std::unique_ptr<Backend>> make_backend(const Options& options, SharedDevices& shared) {
  if (options.device == "cpu") return make_cpu(options, shared);
#if PELTON_WITH_CUDA
  const CudaOptions cuda = cuda_options(options);
  if (options.device == "cuda") {
    auto backend = make_cuda_backend(cuda);
    if (backend.ok()) return backend;
    Status status = annotate(backend.status(), "--device cuda");
    if (!error_field(status)) set_error_field(status, "device");
    return status;
  }
  if (check_cuda(cuda).ok()) return make_cuda_backend(cuda);
#else
  if (options.device == "cuda") {
    return unsupported_field("device", "this build has no CUDA backend; use --device cpu");
  }
#endif
  return make_cpu(options, shared);
}

}  // namespace pelton
