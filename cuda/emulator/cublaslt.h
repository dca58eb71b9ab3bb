// cuBLASLt's matrix product in float32, as far as Pelton calls it: column-major, A transposed or
// not, bf16, f16 and f32 data. Under the library's own signatures with opaque handles. An attribute
// that is not emulated is refused. Thread-safe.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>

namespace pelton::cuda::emulator {

struct LtAlgorithm {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct LtHeuristic {  // cublasLtMatmulHeuristicResult_t
  LtAlgorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

size_t lt_version();
int lt_create(void** handle);
int lt_destroy(void* handle);
int lt_desc_create(void** desc, int compute_type, cudaDataType scale_type);
int lt_desc_destroy(void* desc);
int lt_desc_set(void* desc, int attribute, const void* value, size_t bytes);
int lt_layout_create(void** layout, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld);
int lt_layout_destroy(void* layout);
int lt_preference_create(void** preference);
int lt_preference_destroy(void* preference);
int lt_preference_set(void* preference, int attribute, const void* value, size_t bytes);
int lt_heuristic(void* handle, void* desc, void* a, void* b, void* c, void* d, void* preference,
                 int wanted, LtHeuristic* results, int* found);
int lt_matmul(void* handle, void* desc, const void* alpha, const void* a, void* a_layout,
              const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,
              void* d, void* d_layout, const LtAlgorithm* algorithm, void* workspace,
              size_t workspace_bytes, cudaStream_t stream);

}  // namespace pelton::cuda::emulator
