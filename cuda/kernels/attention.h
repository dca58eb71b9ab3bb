// softmax(softcap(q k^T * scale)) v over the paged cache, for a ragged batch that mixes decode,
// chunked prefill, prefix hits and several query tokens a sequence. Causal, with a sliding window,
// logit softcap and attention sinks.
//
// A row's bits depend on its query and its sequence's K and V alone (batch_invariant): positions
// are cut at multiples of 64 into tiles that enter a running softmax one after the other, at
// multiples of kSplitTokens into splits that start afresh and are merged in order; both kernels
// compute that one chain, whoever computes which split. So: alone or in any batch, decoded or
// prefilled, chunked or not, split over many blocks or not, and wherever the KV blocks lie, the
// result is the same.
//
// Bytes: K and V of every position that a row of the tile sees, once a tile of rows (decode: once
// for all query heads of a group), 2 * row_bytes a position and KV head; q and out once. Partials:
// 8 * (head_dim + 2) for each row and split of split tiles (written, read).
// Operations: 4 * head_dim a query head and visible position, on matrix units (bf16 or f16 in, f32
// sums); a tile of 16 rows is filled with the query heads of a group, the rest of it is padding.
// Limit: decode the bytes over the card's bandwidth (group rows give 2 * group operations a byte);
// prefill the rate of shared memory: 16 rows a warp read each K and V tile, 36 KB for 128 matrix
// instructions at head_dim 128, near the matrix rate of sm_80 and about 60% of that of sm_90.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/attention_plan.h"
#include "cuda/kernels/element_type.h"
#include "cuda/kernels/kv_layout.h"

namespace pelton::cuda {

struct PagedAttentionParams {
  ElementType type = ElementType::kBF16;  // of q and out
  const void* q = nullptr;                // [num_tokens, num_q_heads * head_dim], 16-byte aligned
  int64_t q_stride = 0;                   // elements between tokens, a multiple of 8
  void* out = nullptr;                    // [num_tokens, num_q_heads * head_dim], as q
  int64_t out_stride = 0;
  int num_q_heads = 0;  // a multiple of kv.shape.num_kv_heads
  KvView kv;
  const int32_t* block_tables = nullptr;  // [num_seqs, max_blocks_per_seq]
  int window = 0;                         // as planned
  float scale = 0;
  float softcap = 0;             // cap * tanh(x / cap); 0: off
  const float* sinks = nullptr;  // [num_q_heads]: a logit that takes part in the softmax only

  // The plan, on the device.
  const AttentionItem* items = nullptr;  // 16-byte aligned
  int num_decode = 0;
  int num_prefill = 0;
  int num_merge = 0;
  float* partials = nullptr;  // [attention_workspace_bytes / 4], 16-byte aligned
  int64_t max_partial_rows = 0;
};

// 16-bit KV must be of q's type; head_dim up to 256 with rows of a multiple of 16 bytes; any block
// size.
bool paged_attention_supports(ElementType type, const KvShape& kv, int num_q_heads);

int64_t attention_workspace_bytes(const AttentionShape& shape, int64_t max_partial_rows);

// Enqueues up to three kernels; what does not fit paged_attention_supports is
// cudaErrorInvalidValue.
cudaError_t paged_attention(const PagedAttentionParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
