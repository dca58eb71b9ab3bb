#include "cuda/kernels/linear.h"

#include "cuda/kernels/linear_kernels.h"

namespace pelton::cuda {
namespace {

bool aligned16(const void* p, int64_t stride_bytes) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride_bytes % 16 == 0;
}

LinearArgs args_of(const LinearParams& p) {
  LinearArgs args;
  args.weights = static_cast<const uint8_t*>(p.weights);
  args.x = p.x;
  args.bias = p.bias;
  args.out = p.out;
  args.x_stride = p.x_stride;
  args.out_stride = p.out_stride;
  args.m = p.m;
  args.n = p.n;
  args.k = p.k;
  args.out_f32 = p.out_f32;
  args.x_vectors = aligned16(p.x, p.x_stride * 2);
  args.out_vectors = aligned16(p.out, p.out_stride * (p.out_f32 ? 4 : 2));
  return args;
}

cudaError_t launch_of_type(const LinearParams& p, const LinearGroups& groups, cudaStream_t stream) {
  return p.type == ElementType::kBF16 ? launch_linear_bf16(p.format, args_of(p), groups, stream)
                                      : launch_linear_f16(p.format, args_of(p), groups, stream);
}

}  // namespace

cudaError_t linear(const LinearParams& p, cudaStream_t stream) {
  if (p.m == 0 || p.n == 0) return cudaSuccess;
  LinearGroups one;
  one.count = 1;
  one.usual_rows = p.m;
  return launch_of_type(p, one, stream);
}

cudaError_t grouped_linear(const LinearParams& each, const LinearGroups& groups,
                           cudaStream_t stream) {
  if (groups.count < 1 || groups.count > kMaxLinearGroups || groups.starts == nullptr ||
      each.bias != nullptr) {
    return cudaErrorInvalidValue;
  }
  if (each.m == 0 || each.n == 0) return cudaSuccess;
  return launch_of_type(each, groups, stream);
}

}  // namespace pelton::cuda
