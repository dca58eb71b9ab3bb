#include "cuda/kernels/uncached_attention.h"

#include "cuda/kernels/attention_variants.h"

namespace pelton::cuda {
namespace {

// The tiles of attention_prefill.cu, over rows.
template <class Element>
cudaError_t launch_encoder(const AttentionArgs& args, int items, cudaStream_t stream) {
  constexpr KvSource kRows = KvSource::kRows;
  switch (compiled_head_dim(args.head_dim)) {
    case 64:
      return launch_tile<AttentionTile<Element, Element, 64, 8, 1, 4, 1, kRows>>(args, items,
                                                                                 stream);
    case 128:
      return launch_tile<AttentionTile<Element, Element, 128, 8, 1, 4, 1, kRows>>(args, items,
                                                                                  stream);
    default:
      return launch_tile<AttentionTile<Element, Element, 256, 2, 4, 2, 1, kRows>>(args, items,
                                                                                  stream);
  }
}

}  // namespace

cudaError_t uncached_attention(const UncachedAttentionParams& p, cudaStream_t stream) {
  if (p.num_kv_heads <= 0 || p.num_q_heads <= 0 || p.num_q_heads % p.num_kv_heads != 0 ||
      p.head_dim <= 0 || p.head_dim > 256 || p.head_dim % 8 != 0 || p.qkv_stride % 8 != 0 ||
      p.out_stride % 8 != 0 || !(p.scale > 0)) {
    return cudaErrorInvalidValue;
  }
  if (p.num_items == 0) return cudaSuccess;
  AttentionArgs args;
  args.items = p.items;
  args.q = p.qkv;
  args.out = p.out;
  args.q_stride = p.qkv_stride;
  args.out_stride = p.out_stride;
  args.num_kv_heads = p.num_kv_heads;
  args.group = p.num_q_heads / p.num_kv_heads;
  args.head_dim = p.head_dim;
  args.window = kNoWindow;
  args.factor = p.scale * kLog2E;
  args.row_bytes = p.head_dim * 2;
  args.head_bytes = args.row_bytes;
  args.block_stride = p.qkv_stride * 2;
  args.k = static_cast<const std::byte*>(p.qkv) + int64_t{p.num_q_heads} * args.head_bytes;
  args.v = args.k + p.num_kv_heads * args.head_bytes;
  if (p.type == ElementType::kBF16) {
    return launch_encoder<__nv_bfloat16>(args, p.num_items, stream);
  }
  return launch_encoder<__half>(args, p.num_items, stream);
}

}  // namespace pelton::cuda
