// Norm, rotary embedding with KV write, and activation.
#include <fmt/format.h>

#include "bench/gpu_check/kernel_cases.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/rope_kv.h"

namespace pelton::bench {
namespace {

constexpr int kFill = 0x3c;  // a small number in bf16, and its own high byte
constexpr int kHidden = 4096, kMlp = 14336;
constexpr int kQHeads = 32, kKvHeads = 8, kHeadDim = 128, kBlockSize = 32;

Status norm_case(int rows, const MeasureCase& measure) {
  const int64_t bytes = int64_t{2} * rows * kHidden;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory x, filled(bytes, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory residual, filled(bytes, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(bytes, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory weight, filled(int64_t{4} * kHidden, kFill));
  cuda::NormParams p;
  p.x = x.get();
  p.residual = residual.get();
  p.out = out.get();
  p.x_stride = p.residual_stride = p.out_stride = p.cols = kHidden;
  p.pre.weight = static_cast<const float*>(weight.get());
  p.rows = rows;
  KernelCase c;
  c.name = fmt::format("RMSNorm with residual, {} x {}", rows, kHidden);
  c.bytes = 4.0 * static_cast<double>(bytes) + 4.0 * kHidden;
  c.launches = 10;
  c.launch = [p](int, cudaStream_t stream) { return cuda::norm(p, stream); };
  return measure(c);
}

Status rope_case(int rows, cuda::KvType type, const MeasureCase& measure) {
  const int width = (kQHeads + 2 * kKvHeads) * kHeadDim;
  const cuda::KvShape shape{type, kBlockSize, kKvHeads, kHeadDim};
  const int64_t blocks = (rows + kBlockSize - 1) / kBlockSize;
  std::vector<int32_t> positions(rows);
  for (int i = 0; i < rows; ++i) positions[i] = i;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory qkv, filled(int64_t{2} * rows * width, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory table, filled(int64_t{4} * rows * kHeadDim, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory cache, filled(shape.layer_bytes() * blocks, 0));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory places, uploaded(positions));
  cuda::RopeKvParams p;
  p.qkv = qkv.get();
  p.qkv_stride = width;
  p.rows = rows;
  p.num_q_heads = kQHeads;
  p.num_kv_heads = kKvHeads;
  p.head_dim = p.rotary_dim = kHeadDim;
  p.cos_sin = static_cast<const float*>(table.get());
  p.positions = p.slots = static_cast<const int32_t*>(places.get());
  p.kv = cuda::kv_layer_view(shape, static_cast<std::byte*>(cache.get()), 1, 0);
  KernelCase c;
  c.name = fmt::format("RoPE and KV write ({}), {} tokens",
                       type == cuda::KvType::kF8E4M3 ? "fp8" : "bf16", rows);
  const double kv_row = static_cast<double>(shape.row_bytes()) + (kv_has_scales(type) ? 4 : 0);
  c.bytes =
      rows * (2.0 * width + 2.0 * kQHeads * kHeadDim + 2 * kKvHeads * kv_row + 4.0 * kHeadDim);
  c.launches = 10;
  c.launch = [p](int, cudaStream_t stream) { return cuda::rope_kv(p, stream); };
  return measure(c);
}

Status activation_case(int rows, const MeasureCase& measure) {
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory x, filled(int64_t{4} * rows * kMlp, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(int64_t{2} * rows * kMlp, kFill));
  cuda::ActivationParams p;
  p.x = x.get();
  p.x_stride = 2 * kMlp;
  p.out = out.get();
  p.out_stride = p.cols = kMlp;
  p.rows = rows;
  KernelCase c;
  c.name = fmt::format("SiLU-mul, {} x {}", rows, kMlp);
  c.bytes = 6.0 * rows * kMlp;
  c.launches = 10;
  c.launch = [p](int, cudaStream_t stream) { return cuda::activation(p, stream); };
  return measure(c);
}

}  // namespace

Status row_cases(const CheckContext& context, const MeasureCase& measure) {
  const std::vector<int> row_counts =
      context.quick ? std::vector<int>{2} : std::vector<int>{1, 64, 256, 8192};
  for (const int rows : row_counts) {
    PELTON_RETURN_IF_ERROR(norm_case(rows, measure));
    PELTON_RETURN_IF_ERROR(rope_case(rows, cuda::KvType::kBF16, measure));
    PELTON_RETURN_IF_ERROR(rope_case(rows, cuda::KvType::kF8E4M3, measure));
    PELTON_RETURN_IF_ERROR(activation_case(rows, measure));
  }
  return Status();
}

}  // namespace pelton::bench
