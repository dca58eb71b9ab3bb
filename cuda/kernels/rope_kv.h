// QK norm, rotary embedding and the write into the paged KV cache, one pass over qkv.
//
// q and k: RMS norm over head_dim where given, then rotation where given, in float32. q is written
// in place. k and v go to their slots, in the cache's type (kv_layout.h); without a cache k is
// written in place as well. A row depends on itself alone.
//
// Bytes a token: 2 (Hq + 2 Hkv) D of qkv read, 2 Hq D of q written, 2 Hkv rows of KV written; the
// table's row (4 rotary_dim) and norm weights are shared by the token's heads and stay in L2.
// Operations: about 10 an element. Limit: memory bandwidth.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/element_type.h"
#include "cuda/kernels/kv_layout.h"

namespace pelton::cuda {

struct RopeKvParams {
  ElementType type = ElementType::kBF16;  // of qkv
  void* qkv = nullptr;                    // [rows, (num_q_heads + 2 num_kv_heads) * head_dim]
  int64_t qkv_stride = 0;                 // elements between rows
  int rows = 0;
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;               // 1 .. 256
  const float* q_norm = nullptr;  // [head_dim], or null
  const float* k_norm = nullptr;
  float norm_eps = 1e-6F;
  // [max_positions, rotary_dim]: a position's rotary_dim / 2 cosines, then as many sines; or null.
  const float* cos_sin = nullptr;
  int rotary_dim = 0;                  // even, at most head_dim; the rest of a head passes through
  bool interleaved = false;            // pairs (2i, 2i + 1) instead of (i, i + rotary_dim / 2)
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* slots = nullptr;      // [rows] block * block_size + offset; -1: not written
  KvView kv;                           // data null: no cache
};

// 16-byte accesses where head_dim is a multiple of 8 (rotary_dim of 16, interleaved 8) and
// addresses allow it; else a warp a head, element by element.
cudaError_t rope_kv(const RopeKvParams& params, cudaStream_t stream);

}  // namespace pelton::cuda
