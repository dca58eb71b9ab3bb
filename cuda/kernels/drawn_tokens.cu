#include "cuda/kernels/drawn_tokens.h"

#include "cuda/kernels/device.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) drawn_tokens_kernel(DrawnTokensParams p) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i < p.num_pairs) p.tokens[p.pairs[2 * i]] = p.drawn[p.pairs[2 * i + 1]];
}

}  // namespace

cudaError_t drawn_tokens(const DrawnTokensParams& params, cudaStream_t stream) {
  if (params.num_pairs <= 0) return cudaSuccess;
  return launch(drawn_tokens_kernel, dim3(ceil_div(params.num_pairs, kThreads)), dim3(kThreads), 0,
                stream, params);
}

}  // namespace pelton::cuda
