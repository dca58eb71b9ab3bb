// Attention without a cache, as encoders use it, and their norm.
#include <fmt/format.h>

#include "bench/gpu_check/kernel_cases.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/uncached_attention.h"

namespace pelton::bench {
namespace {

constexpr int kFill = 0x3c;

Status attention_case(int sequences, int length, int heads, int head_dim,
                      const MeasureCase& measure) {
  cudaDeviceProp card;
  PELTON_RETURN_IF_ERROR(cuda_error(cudaGetDeviceProperties(&card, 0), "properties"));
  std::vector<int32_t> starts;
  for (int s = 0; s <= sequences; ++s) starts.push_back(s * length);
  cuda::AttentionShape shape;
  shape.num_q_heads = shape.num_kv_heads = heads;
  shape.head_dim = head_dim;
  shape.num_sms = card.multiProcessorCount;
  cuda::AttentionPlan plan;
  cuda::plan_uncached_attention(shape, starts, plan);
  const auto item_bytes = static_cast<int64_t>(plan.items.size() * sizeof(cuda::AttentionItem));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory items, device_memory(item_bytes));
  PELTON_RETURN_IF_ERROR(cuda_error(
      cudaMemcpy(items.get(), plan.items.data(), item_bytes, cudaMemcpyHostToDevice), "upload"));
  const int64_t tokens = int64_t{sequences} * length, width = int64_t{heads} * head_dim;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory qkv, filled(6 * tokens * width, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(2 * tokens * width, kFill));
  cuda::UncachedAttentionParams p;
  p.qkv = qkv.get();
  p.qkv_stride = 3 * width;
  p.out = out.get();
  p.out_stride = width;
  p.num_q_heads = p.num_kv_heads = heads;
  p.head_dim = head_dim;
  p.scale = 0.125F;
  p.items = static_cast<const cuda::AttentionItem*>(items.get());
  p.num_items = static_cast<int>(plan.items.size());
  KernelCase c;
  c.name = fmt::format("attention of an encoder, {} x {}", sequences, length);
  c.bytes = 8.0 * static_cast<double>(tokens * width);
  c.operations = 4.0 * static_cast<double>(tokens * width) * length;
  c.launches = 5;
  c.launch = [p](int, cudaStream_t stream) { return cuda::uncached_attention(p, stream); };
  return measure(c);
}

Status norm_case(int rows, int cols, const MeasureCase& measure) {
  const int64_t bytes = int64_t{2} * rows * cols;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory x, filled(bytes, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory residual, filled(bytes, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory scales, filled(int64_t{4} * cols, kFill));
  cuda::NormParams p;
  p.remove_mean = true;
  p.x = x.get();
  p.out = x.get();
  p.residual = residual.get();
  p.x_stride = p.residual_stride = p.out_stride = p.cols = cols;
  p.pre.weight = p.pre.bias = static_cast<const float*>(scales.get());
  p.rows = rows;
  KernelCase c;
  c.name = fmt::format("LayerNorm with residual, {} x {}", rows, cols);
  c.bytes = 4.0 * static_cast<double>(bytes);
  c.launches = 10;
  c.launch = [p](int, cudaStream_t stream) { return cuda::norm(p, stream); };
  return measure(c);
}

}  // namespace

Status encoder_cases(const CheckContext& context, const MeasureCase& measure) {
  if (context.quick) {
    PELTON_RETURN_IF_ERROR(attention_case(2, 9, 2, 64, measure));
    return norm_case(2, 64, measure);
  }
  PELTON_RETURN_IF_ERROR(attention_case(64, 128, 12, 64, measure));
  PELTON_RETURN_IF_ERROR(attention_case(16, 512, 16, 64, measure));
  return norm_case(8192, 1024, measure);
}

}  // namespace pelton::bench
