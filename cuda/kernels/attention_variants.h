// Picks the variant of an attention kernel by types and head_dim. Code of attention_*.cu alone.
#pragma once

#include "cuda/kernels/attention_kernel.h"

namespace pelton::cuda {

template <class Tile>
cudaError_t launch_tile(const AttentionArgs& args, int items, cudaStream_t stream) {
  const cudaError_t error = allow_shared(attention_kernel<Tile>, Tile::kSharedBytes);
  if (error != cudaSuccess) return error;
  return launch(attention_kernel<Tile>,
                dim3(static_cast<unsigned>(items), static_cast<unsigned>(args.num_kv_heads)),
                dim3(Tile::kThreads), Tile::kSharedBytes, stream, args);
}

template <class Head64, class Head128, class Head256>
cudaError_t launch_head(const AttentionArgs& args, int items, cudaStream_t stream) {
  switch (compiled_head_dim(args.head_dim)) {
    case 64:
      return launch_tile<Head64>(args, items, stream);
    case 128:
      return launch_tile<Head128>(args, items, stream);
    default:
      return launch_tile<Head256>(args, items, stream);
  }
}

// Variants<Element, Code>::launch(args, items, stream).
template <template <class, class> class Variants>
cudaError_t launch_by_type(const AttentionArgs& args, ElementType type, KvType kv, int items,
                           cudaStream_t stream) {
  using Bf16 = __nv_bfloat16;
  using Fp8 = __nv_fp8_e4m3;
  const bool bf16 = type == ElementType::kBF16;
  switch (kv) {
    case KvType::kBF16:
      return Variants<Bf16, Bf16>::launch(args, items, stream);
    case KvType::kF16:
      return Variants<__half, __half>::launch(args, items, stream);
    case KvType::kF8E4M3:
      return bf16 ? Variants<Bf16, Fp8>::launch(args, items, stream)
                  : Variants<__half, Fp8>::launch(args, items, stream);
    case KvType::kI8:
      return bf16 ? Variants<Bf16, int8_t>::launch(args, items, stream)
                  : Variants<__half, int8_t>::launch(args, items, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace pelton::cuda
