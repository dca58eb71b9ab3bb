// The part of cuBLASLt that the backend calls, declared here because the library is opened at run
// time: one binary serves machines with and without it. Names and values are those of its public
// ABI (cublasLt.h, library_types.h); handles are opaque.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/status.h"

namespace pelton::cuda {

namespace cublaslt {

// cublasStatus_t
inline constexpr int kSuccess = 0, kInvalidValue = 7, kArchMismatch = 8, kNotSupported = 15;
inline constexpr int kCompute32F = 68;    // cublasComputeType_t
inline constexpr int kOpN = 0, kOpT = 1;  // cublasOperation_t
inline constexpr int kDescTransA = 3;     // cublasLtMatmulDescAttributes_t
inline constexpr int kDescTransB = 4;     //
inline constexpr int kDescScalePointerA = 17, kDescScalePointerB = 18;
inline constexpr int kDescScaleModeA = 31, kDescScaleModeB = 32;
// cublasLtMatmulMatrixScale_t: float32, one for 128 of k and a row (sm_90; from CUDA 12.9 on).
inline constexpr int32_t kScaleOf128 = 4;
inline constexpr int kPrefMaxWorkspaceBytes = 1;  // cublasLtMatmulPreferenceAttributes_t
inline constexpr int kPrefReductionSchemeMask = 3;
inline constexpr int kPrefMinAlignments[] = {5, 6, 7, 8};  // bytes of a, b, c, d
// cublasLtReductionScheme_t without the in-place one, whose atomics have no order.
inline constexpr uint32_t kOrderedReductions = 2 | 4;

struct Algorithm {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct Heuristic {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Heuristic) == 96);

}  // namespace cublaslt

// The functions, under the library's names without their prefix.
struct CublasLt {
  size_t (*GetVersion)();
  int (*Create)(void** handle);
  int (*Destroy)(void* handle);
  int (*MatmulDescCreate)(void** desc, int compute_type, cudaDataType scale_type);
  int (*MatmulDescDestroy)(void* desc);
  int (*MatmulDescSetAttribute)(void* desc, int attribute, const void* value, size_t bytes);
  int (*MatrixLayoutCreate)(void** layout, cudaDataType type, uint64_t rows, uint64_t cols,
                            int64_t ld);
  int (*MatrixLayoutDestroy)(void* layout);
  int (*MatmulPreferenceCreate)(void** preference);
  int (*MatmulPreferenceDestroy)(void* preference);
  int (*MatmulPreferenceSetAttribute)(void* preference, int attribute, const void* value,
                                      size_t bytes);
  int (*MatmulAlgoGetHeuristic)(void* handle, void* desc, void* a, void* b, void* c, void* d,
                                void* preference, int wanted, cublaslt::Heuristic* results,
                                int* found);
  int (*Matmul)(void* handle, void* desc, const void* alpha, const void* a, void* a_layout,
                const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,
                void* d, void* d_layout, const cublaslt::Algorithm* algorithm, void* workspace,
                size_t workspace_bytes, cudaStream_t stream);
};

// The first of these files that has all functions; null: this program itself.
StatusOr<CublasLt> open_cublaslt(std::span<const char* const> names);
// The installed library, opened once. FAILED_PRECONDITION names the files that were looked for.
StatusOr<const CublasLt*> open_cublaslt();

}  // namespace pelton::cuda
