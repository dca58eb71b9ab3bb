// softmax(q k^T * scale) v inside each sequence of the step, every token seeing every other, K and
// V read from the rows of qkv: no cache. A row's bits depend on its sequence alone.
//
// Bytes: q and out once; K and V of the sequence for each tile of 128 / group of its tokens, from
// the L2 after the first. Operations: 4 * head_dim a query head and pair of tokens. Limit: as for
// prefill in attention.h, whose tiles these are.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/attention_plan.h"
#include "cuda/kernels/element_type.h"

namespace pelton::cuda {

struct UncachedAttentionParams {
  ElementType type = ElementType::kBF16;
  const void* qkv = nullptr;  // [num_tokens, (num_q_heads + 2 num_kv_heads) * head_dim], 16-byte
                              // aligned
  int64_t qkv_stride = 0;     // elements between tokens, a multiple of 8
  void* out = nullptr;        // [num_tokens, num_q_heads * head_dim], 16-byte aligned
  int64_t out_stride = 0;     // a multiple of 8
  int num_q_heads = 0;        // a multiple of num_kv_heads
  int num_kv_heads = 0;
  int head_dim = 0;                      // a multiple of 8 up to 256
  float scale = 0;                       // above 0
  const AttentionItem* items = nullptr;  // plan_uncached_attention's, on the device
  int num_items = 0;
};

// cudaErrorInvalidValue for what the comments above exclude.
cudaError_t uncached_attention(const UncachedAttentionParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
