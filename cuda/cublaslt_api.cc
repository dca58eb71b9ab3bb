#include "cuda/cublaslt_api.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace pelton::cuda {
namespace {

template <typename Function>
bool find(void* library, const char* name, Function& out) {
  out = reinterpret_cast<Function>(dlsym(library, name));
  return out != nullptr;
}

bool find_all(void* library, CublasLt& out) {
  return find(library, "cublasLtGetVersion", out.GetVersion) &&
         find(library, "cublasLtCreate", out.Create) &&
         find(library, "cublasLtDestroy", out.Destroy) &&
         find(library, "cublasLtMatmulDescCreate", out.MatmulDescCreate) &&
         find(library, "cublasLtMatmulDescDestroy", out.MatmulDescDestroy) &&
         find(library, "cublasLtMatmulDescSetAttribute", out.MatmulDescSetAttribute) &&
         find(library, "cublasLtMatrixLayoutCreate", out.MatrixLayoutCreate) &&
         find(library, "cublasLtMatrixLayoutDestroy", out.MatrixLayoutDestroy) &&
         find(library, "cublasLtMatmulPreferenceCreate", out.MatmulPreferenceCreate) &&
         find(library, "cublasLtMatmulPreferenceDestroy", out.MatmulPreferenceDestroy) &&
         find(library, "cublasLtMatmulPreferenceSetAttribute", out.MatmulPreferenceSetAttribute) &&
         find(library, "cublasLtMatmulAlgoGetHeuristic", out.MatmulAlgoGetHeuristic) &&
         find(library, "cublasLtMatmul", out.Matmul);
}

}  // namespace

StatusOr<CublasLt> open_cublaslt(std::span<const char* const> names) {
  std::string looked_for;
  for (const char* name : names) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    CublasLt out{};
    if (library != nullptr && find_all(library, out)) return out;  // stays open for good
    if (name != nullptr) looked_for += (looked_for.empty() ? "" : " nor ") + std::string(name);
  }
  return absl::FailedPreconditionError(
      fmt::format("cuBLASLt is not installed: neither {} is found, or it lacks a function "
                  "(--batch-invariant needs none)",
                  looked_for));
}

StatusOr<const CublasLt*> open_cublaslt() {
  // null: this program, should it have the library linked in. Toolkits need not be known to the
  // dynamic linker.
  static constexpr const char* kNames[] = {
      nullptr, "libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so.12",
      "/usr/local/cuda/lib64/libcublasLt.so.12"};
  static const StatusOr<CublasLt> library = open_cublaslt(kNames);
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace pelton::cuda
