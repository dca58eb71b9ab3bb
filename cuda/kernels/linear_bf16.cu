#include "cuda/kernels/linear_launch.h"

namespace pelton::cuda {

cudaError_t launch_linear_bf16(WeightFormat format, const LinearArgs& args,
                               const LinearGroups& groups, cudaStream_t stream) {
  return launch_linear<BF16>(format, args, groups, stream);
}

}  // namespace pelton::cuda
