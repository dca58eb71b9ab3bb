#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "cuda/cuda_backend.h"
#include "cuda/cuda_status.h"
#include "cuda/kernels/card_code.h"

namespace pelton {

Status check_cuda(const CudaOptions& options) {
  int driver = 0, runtime = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return absl::FailedPreconditionError("no CUDA driver is installed (libcuda.so.1)");
  }
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    return absl::FailedPreconditionError(
        fmt::format("the CUDA driver is too old: it serves CUDA {}.{}, and {}.{} is needed",
                    driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10));
  }
  if (counted == cudaErrorNoDevice) {
    cudaGetLastError();
    return absl::FailedPreconditionError("a CUDA driver is installed, but there is no card");
  }
  PELTON_RETURN_IF_CUDA_ERROR(counted, "asking for the cards");
  if (options.device < 0 || options.device >= count) {
    return absl::FailedPreconditionError(
        fmt::format("there is no card {}: {} were found", options.device, count));
  }
  int major = 0, minor = 0;
  PELTON_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, options.device),
      "asking for the card's compute capability");
  PELTON_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, options.device),
      "asking for the card's compute capability");
  if (major < 8) {
    return absl::FailedPreconditionError(fmt::format(
        "the card's compute capability is {}.{}, and 8.0 or more is needed", major, minor));
  }
  PELTON_RETURN_IF_CUDA_ERROR(cudaSetDevice(options.device), "choosing the card");
  const cudaError_t code = cuda::has_code_for_card();
  if (code == cudaErrorNoKernelImageForDevice) {
    cudaGetLastError();
    return absl::FailedPreconditionError(
        fmt::format("this program was not compiled for the card's compute capability {0}.{1} "
                    "(make cuda ARCHITECTURES={0}{1}-real)",
                    major, minor));
  }
  PELTON_RETURN_IF_CUDA_ERROR(code, "asking for the kernels");
  return absl::OkStatus();
}

}  // namespace pelton
