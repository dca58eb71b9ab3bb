#include "cuda/cublaslt_api.h"

#include <dlfcn.h>

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

StatusOr<CublasLt> open() {
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    CublasLt out{};
    if (library != nullptr && find_all(library, out)) return out;  // stays open for good
  }
  return absl::FailedPreconditionError(
      "cuBLASLt is not installed: neither libcublasLt.so.13 nor libcublasLt.so.12 is found, or it "
      "lacks a function");
}

}  // namespace

StatusOr<const CublasLt*> open_cublaslt() {
  static const StatusOr<CublasLt> library = open();
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace pelton::cuda
