// What attention.cu asks of the files that hold the kernels' variants.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/attention_tile.h"

namespace pelton::cuda {

// `items` blocks by num_kv_heads, for tiles of kDecodeTileRows or of the prefill's rows.
// The head_dim that a variant is compiled for is the next of 64, 128, 256.
cudaError_t launch_attention_decode(const AttentionArgs& args, ElementType type, KvType kv,
                                    int items, cudaStream_t stream);
cudaError_t launch_attention_prefill(const AttentionArgs& args, ElementType type, KvType kv,
                                     int items, cudaStream_t stream);

}  // namespace pelton::cuda
