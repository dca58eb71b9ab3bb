#include "cuda/kernels/card_code.h"

#include "cuda/kernels/device.h"

namespace pelton::cuda {
namespace {

// Stands for all kernels: they are compiled for the same cards.
__global__ void __launch_bounds__(32) card_code_kernel() {}

}  // namespace

cudaError_t has_code_for_card() {
  cudaFuncAttributes attributes;
  const cudaError_t error =
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&card_code_kernel));
  // Older runtimes say it so.
  return error == cudaErrorInvalidDeviceFunction ? cudaErrorNoKernelImageForDevice : error;
}

}  // namespace pelton::cuda
