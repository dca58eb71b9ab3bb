// The parts of a routed MLP beside its matrix products: which experts a token takes, the tokens of
// each expert back to back, and the weighted sum of what the experts gave.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

inline constexpr int kMaxExperts = 1024;
inline constexpr int kMaxExpertsPerToken = 32;

// The top_k experts of largest logit, the largest first, of equal ones the lower id. Weight: the
// expert's softmax or sigmoid, divided by the sum over the chosen where `renormalize`, times
// `scale`; NaN where any logit of the row is. Bytes: the logits and 8 top_k a row. Limit: memory
// bandwidth; a launch's latency in practice.
struct RouteParams {
  bool is_float32 = false;  // logits; else `type`
  ElementType type = ElementType::kBF16;
  const void* logits = nullptr;  // [rows, experts]
  int64_t logits_stride = 0;     // elements
  int rows = 0;
  int experts = 0;  // 1 .. kMaxExperts
  int top_k = 0;    // 1 .. min(experts, kMaxExpertsPerToken)
  bool renormalize = true;
  bool sigmoid = false;
  float scale = 1.0F;
  int32_t* expert_ids = nullptr;    // [rows, top_k]
  float* expert_weights = nullptr;  // [rows, top_k]
};
cudaError_t route(const RouteParams& params, cudaStream_t stream);

// Entry i of expert_ids (token i / top_k) goes to place[i]; the entries of expert e stand at
// [starts[e], starts[e + 1]) in their order of i, and token_of[place[i]] = i / top_k. No atomics:
// the order is the same each time. Bytes: the ids are read twice by each expert, out of L2.
struct GroupByExpertParams {
  const int32_t* expert_ids = nullptr;  // [entries], each in [0, experts)
  int entries = 0;
  int top_k = 1;
  int experts = 0;              // 1 .. kMaxExperts
  int32_t* starts = nullptr;    // [experts + 1]
  int32_t* place = nullptr;     // [entries]
  int32_t* token_of = nullptr;  // [entries]
};
cudaError_t group_by_expert(const GroupByExpertParams& params, cudaStream_t stream);

// out[m] = sum over its entries of weight * x[place], in order of expert id, in float32.
// Bytes a row: 2 cols (top_k + 1). Limit: memory bandwidth.
struct CombineExpertsParams {
  ElementType type = ElementType::kBF16;  // of x and out
  const void* x = nullptr;                // [rows * top_k, cols], in the order of place
  int64_t x_stride = 0;                   // elements
  const int32_t* expert_ids = nullptr;    // [rows, top_k], all of a row's different
  const float* expert_weights = nullptr;  // [rows, top_k]
  const int32_t* place = nullptr;         // [rows, top_k]
  int top_k = 0;
  void* out = nullptr;  // [rows, cols]
  int64_t out_stride = 0;
  int rows = 0;
  int cols = 0;
};
cudaError_t combine_experts(const CombineExpertsParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
