#include "cuda/kernels/attention.h"

#include "cuda/kernels/attention_launch.h"
#include "cuda/kernels/attention_softmax.h"

namespace pelton::cuda {
namespace {

constexpr int kMergeThreads = 128;

// A block merges the splits of one row and KV head, in order; a thread owns a column.
template <class Element>
__global__ void __launch_bounds__(kMergeThreads) merge_kernel(AttentionArgs args) {
  const AttentionItem item = load_item(args.items + blockIdx.x);
  if (item.rows == 0) return;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int head = kv_head * args.group + item.first_row % args.group;
  auto* out = static_cast<Element*>(args.out) +
              (item.token + item.first_row / args.group) * args.out_stride +
              int64_t{head} * args.head_dim;
  const int splits = item.end_split - item.first_split;
  for (int column = static_cast<int>(threadIdx.x); column < args.head_dim;
       column += kMergeThreads) {
    float maximum = kNothing, sum = 0.0F, total = 0.0F;
#pragma unroll 8
    for (int split = 0; split < splits; ++split) {
      const int64_t place =
          (int64_t{item.partial} + split * item.rows) * args.num_kv_heads + kv_head;
      const float2 state = args.partial_state[place];
      const float part = args.partial_out[place * args.partial_dim + column];
      const MergeWeights weights = merge_weights(maximum, state.x);
      maximum = weights.maximum;
      sum = merged(sum, state.y, weights);
      total = merged(total, part, weights);
    }
    const float value = __fmul_rn(total, final_factor(maximum, sum, args.sinks, head));
    if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
      out[column] = __float2bfloat16_rn(value);
    } else {
      out[column] = __float2half_rn(value);
    }
  }
}

cudaError_t launch_merge(const AttentionArgs& args, ElementType type, int items,
                         cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(items), static_cast<unsigned>(args.num_kv_heads));
  if (type == ElementType::kBF16) {
    return launch(merge_kernel<__nv_bfloat16>, grid, dim3(kMergeThreads), 0, stream, args);
  }
  return launch(merge_kernel<__half>, grid, dim3(kMergeThreads), 0, stream, args);
}

AttentionArgs make_args(const PagedAttentionParams& p) {
  const KvShape& shape = p.kv.shape;
  AttentionArgs args;
  args.q = p.q;
  args.out = p.out;
  args.q_stride = p.q_stride;
  args.out_stride = p.out_stride;
  args.num_kv_heads = shape.num_kv_heads;
  args.group = p.num_q_heads / shape.num_kv_heads;
  args.head_dim = shape.head_dim;
  args.window = p.window > 0 ? p.window : kNoWindow;
  args.cap = p.softcap;
  args.cap_factor = p.softcap > 0 ? p.scale / p.softcap * 2 * kLog2E : 0;
  args.factor = p.softcap > 0 ? kLog2E : p.scale * kLog2E;
  args.sinks = p.sinks;
  args.k = p.kv.data;
  args.v = p.kv.data + shape.v_offset();
  args.k_scales = p.kv.data + shape.k_scales_offset();
  args.v_scales = args.k_scales + shape.scales_bytes();
  args.block_stride = p.kv.block_stride;
  args.head_bytes = shape.head_bytes();
  args.row_bytes = static_cast<int>(shape.row_bytes());
  args.block_size = shape.block_size;
  args.block_size_inverse = ((1U << kInverseShift) + shape.block_size - 1) / shape.block_size;
  args.block_tables = p.block_tables;
  args.partial_dim = compiled_head_dim(shape.head_dim);
  args.partial_out = p.partials;
  args.partial_state = reinterpret_cast<float2*>(
      p.partials + p.max_partial_rows * shape.num_kv_heads * args.partial_dim);
  return args;
}

}  // namespace

bool paged_attention_supports(ElementType type, const KvShape& kv, int num_q_heads) {
  const KvType same = type == ElementType::kBF16 ? KvType::kBF16 : KvType::kF16;
  return kv.valid() && kv.block_size <= kMaxBlockSize && num_q_heads > 0 &&
         num_q_heads % kv.num_kv_heads == 0 && (kv_has_scales(kv.type) || kv.type == same);
}

int64_t attention_workspace_bytes(const AttentionShape& shape, int64_t max_partial_rows) {
  return max_partial_rows * shape.num_kv_heads * (compiled_head_dim(shape.head_dim) + 2) *
         static_cast<int64_t>(sizeof(float));
}

cudaError_t paged_attention(const PagedAttentionParams& params, cudaStream_t stream) {
  if (!paged_attention_supports(params.type, params.kv.shape, params.num_q_heads) ||
      params.q_stride % 8 != 0 || params.out_stride % 8 != 0 || !(params.scale > 0)) {
    return cudaErrorInvalidValue;
  }
  if (params.num_decode + params.num_prefill + params.num_merge == 0) return cudaSuccess;
  AttentionArgs args = make_args(params);
  const KvType kv = params.kv.shape.type;
  args.items = params.items;
  if (params.num_decode > 0) {
    const cudaError_t error =
        launch_attention_decode(args, params.type, kv, params.num_decode, stream);
    if (error != cudaSuccess) return error;
  }
  args.items += params.num_decode;
  if (params.num_prefill > 0) {
    const cudaError_t error =
        launch_attention_prefill(args, params.type, kv, params.num_prefill, stream);
    if (error != cudaSuccess) return error;
  }
  args.items += params.num_prefill;
  if (params.num_merge == 0) return cudaSuccess;
  return launch_merge(args, params.type, params.num_merge, stream);
}

}  // namespace pelton::cuda
