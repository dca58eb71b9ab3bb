// Which kernel of linear_kernels.h takes a product: by its number of rows and its weights' format.
// Host side; included once for each element type, so that they compile side by side.
#pragma once

#include "cuda/kernels/linear_kernels.h"

namespace pelton::cuda {

template <WeightFormat kFormat, typename T, int kTokens>
cudaError_t launch_narrow(const LinearArgs& args, const LinearGroups& groups, cudaStream_t stream) {
  const dim3 grid((args.m + kTokens - 1) / kTokens, (args.n + kTileRows - 1) / kTileRows,
                  groups.count);
  return launch(linear_narrow_kernel<kFormat, T, kTokens>, grid, dim3(kLinearThreads), 0, stream,
                args, groups);
}

template <WeightFormat kFormat, typename T, int kTokens>
cudaError_t launch_wide(const LinearArgs& args, const LinearGroups& groups, cudaStream_t stream) {
  constexpr int kRows = kTileRows * kLinearWarps;
  constexpr int kBytes = wide_shared_bytes<kFormat, kTokens>();
  const dim3 grid((args.m + kTokens - 1) / kTokens, (args.n + kRows - 1) / kRows, groups.count);
  const cudaError_t allowed = allow_shared(linear_wide_kernel<kFormat, T, kTokens>, kBytes);
  if (allowed != cudaSuccess) return allowed;
  return launch(linear_wide_kernel<kFormat, T, kTokens>, grid, dim3(kLinearThreads), kBytes, stream,
                args, groups);
}

template <WeightFormat kFormat, typename T>
cudaError_t launch_linear_format(const LinearArgs& args, const LinearGroups& groups,
                                 cudaStream_t stream) {
  if (groups.starts == nullptr && args.m <= 8)
    return launch_narrow<kFormat, T, 8>(args, groups, stream);
  if (groups.usual_rows <= 32) return launch_narrow<kFormat, T, 32>(args, groups, stream);
  if (groups.usual_rows <= 64) return launch_wide<kFormat, T, 64>(args, groups, stream);
  return launch_wide<kFormat, T, 96>(args, groups, stream);
}

template <typename T>
cudaError_t launch_linear(WeightFormat format, const LinearArgs& args, const LinearGroups& groups,
                          cudaStream_t stream) {
  switch (format) {
    case WeightFormat::k16Bit:
      return launch_linear_format<WeightFormat::k16Bit, T>(args, groups, stream);
    case WeightFormat::kQ8_0:
      return launch_linear_format<WeightFormat::kQ8_0, T>(args, groups, stream);
    case WeightFormat::kQ4_0:
      return launch_linear_format<WeightFormat::kQ4_0, T>(args, groups, stream);
    case WeightFormat::kQ4_1:
      return launch_linear_format<WeightFormat::kQ4_1, T>(args, groups, stream);
    case WeightFormat::kQ5_0:
      return launch_linear_format<WeightFormat::kQ5_0, T>(args, groups, stream);
    case WeightFormat::kQ5_1:
      return launch_linear_format<WeightFormat::kQ5_1, T>(args, groups, stream);
    case WeightFormat::kQ4_K:
      return launch_linear_format<WeightFormat::kQ4_K, T>(args, groups, stream);
    case WeightFormat::kQ5_K:
      return launch_linear_format<WeightFormat::kQ5_K, T>(args, groups, stream);
    case WeightFormat::kQ6_K:
      return launch_linear_format<WeightFormat::kQ6_K, T>(args, groups, stream);
    case WeightFormat::kF8_128:
      return launch_linear_format<WeightFormat::kF8_128, T>(args, groups, stream);
    case WeightFormat::kI4_128:
      return launch_linear_format<WeightFormat::kI4_128, T>(args, groups, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace pelton::cuda
