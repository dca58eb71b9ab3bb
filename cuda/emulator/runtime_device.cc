// The emulated runtime: the card's properties, errors, kernel attributes.
#include <cuda_runtime_api.h>

#include <cstring>

#include "cuda/emulator/launch.h"
#include "cuda/emulator/runtime_state.h"

using pelton::cuda::emulator::Call;
using pelton::cuda::emulator::CallKind;
using pelton::cuda::emulator::Card;
using pelton::cuda::emulator::last_error;
using pelton::cuda::emulator::Runtime;

namespace {

constexpr size_t kSharedPerBlock = 48 << 10;
constexpr int kRegistersPerMultiprocessor = 65536;

cudaError_t card_state(int device) {
  const Card& card = Runtime::get().card;
  if (card.driver_version == 0) return cudaErrorInsufficientDriver;
  if (!card.present) return cudaErrorNoDevice;
  return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

int threads_per_multiprocessor(const Card& card) {
  const bool small = (card.major == 8 && card.minor != 0) || card.major == 12;
  return small ? 1536 : 2048;
}

struct NamedError {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr NamedError kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  Call call("cudaGetDeviceCount");
  *count = 0;
  if (call.failed()) return call.result();
  const cudaError_t state = card_state(0);
  if (state == cudaSuccess) *count = 1;
  return call.result(state);
}

cudaError_t cudaSetDevice(int device) {
  Call call("cudaSetDevice");
  return call.failed() ? call.result() : call.result(card_state(device));
}

cudaError_t cudaGetDevice(int* device) {
  Call call("cudaGetDevice");
  *device = 0;
  return call.failed() ? call.result() : call.result(card_state(0));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  Call call("cudaGetDeviceProperties");
  if (call.failed()) return call.result();
  if (const cudaError_t state = card_state(device); state != cudaSuccess) {
    return call.result(state);
  }
  const Card& card = Runtime::get().card;
  *properties = {};
  std::strncpy(properties->name, card.name.c_str(), sizeof(properties->name) - 1);
  properties->totalGlobalMem = static_cast<size_t>(card.memory_bytes);
  properties->sharedMemPerBlock = kSharedPerBlock;
  properties->sharedMemPerBlockOptin = static_cast<size_t>(card.shared_per_block_optin);
  properties->sharedMemPerMultiprocessor = static_cast<size_t>(card.shared_per_multiprocessor);
  properties->reservedSharedMemPerBlock = 1024;
  properties->regsPerBlock = properties->regsPerMultiprocessor = kRegistersPerMultiprocessor;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = threads_per_multiprocessor(card);
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->major = card.major;
  properties->minor = card.minor;
  properties->multiProcessorCount = card.multiprocessors;
  properties->l2CacheSize = static_cast<int>(card.l2_bytes);
  properties->asyncEngineCount = 2;
  properties->unifiedAddressing = 1;
  properties->concurrentKernels = 1;
  return call.result(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  Call call("cudaDeviceGetAttribute");
  if (call.failed()) return call.result();
  if (const cudaError_t state = card_state(device); state != cudaSuccess) {
    return call.result(state);
  }
  const Card& card = Runtime::get().card;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = card.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = card.minor;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = card.multiprocessors;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(kSharedPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(card.shared_per_block_optin);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(card.shared_per_multiprocessor);
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = threads_per_multiprocessor(card);
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrL2CacheSize:
      *value = static_cast<int>(card.l2_bytes);
      break;
    default:
      return call.result(cudaErrorNotSupported);  // not emulated: say so, do not guess
  }
  return call.result(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int* version) {
  Call call("cudaDriverGetVersion");
  *version = Runtime::get().card.driver_version;
  return call.result();
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  Call call("cudaRuntimeGetVersion");
  *version = CUDART_VERSION;
  return call.result();
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  Call call("cudaDeviceGetPCIBusId");
  if (call.failed()) return call.result();
  if (device != 0 || length < 13) return call.result(cudaErrorInvalidValue);
  std::strncpy(id, "0000:00:00.0", static_cast<size_t>(length));
  return call.result(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize() {
  Call call("cudaDeviceSynchronize", CallKind::kNotInCapture);
  if (call.failed()) return call.result();
  Runtime::get().run_all();
  return call.result(Runtime::get().device_error);
}

cudaError_t cudaGetLastError() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  const cudaError_t error = last_error();
  last_error() = cudaSuccess;
  return runtime.device_error != cudaSuccess ? runtime.device_error : error;
}

cudaError_t cudaPeekAtLastError() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  return runtime.device_error != cudaSuccess ? runtime.device_error : last_error();
}

const char* cudaGetErrorName(cudaError_t error) {
  for (const NamedError& named : kErrors) {
    if (named.error == error) return named.name;
  }
  return "cudaError";
}

const char* cudaGetErrorString(cudaError_t error) {
  for (const NamedError& named : kErrors) {
    if (named.error == error) return named.text;
  }
  return "an error that the emulator has no text for";
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  Call call("cudaFuncSetAttribute");
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return call.result(cudaSuccess);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return call.result(cudaErrorNotSupported);
  }
  if (value < 0 || value > runtime.card.shared_per_block_optin) {
    return call.result(cudaErrorInvalidValue);
  }
  runtime.dynamic_shared[kernel] = value;
  pelton::cuda::emulator::allow_dynamic_shared(kernel, static_cast<size_t>(value));
  return call.result(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  Call call("cudaFuncGetAttributes");
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  *attributes = {};
  if (const cudaError_t state = card_state(0); state != cudaSuccess) return call.result(state);
  if (!runtime.card.has_code) return call.result(cudaErrorNoKernelImageForDevice);
  attributes->maxThreadsPerBlock = 1024;
  attributes->binaryVersion = runtime.card.major * 10 + runtime.card.minor;
  attributes->ptxVersion = attributes->binaryVersion;
  const auto dynamic = runtime.dynamic_shared.find(kernel);
  attributes->maxDynamicSharedSizeBytes =
      dynamic == runtime.dynamic_shared.end() ? static_cast<int>(kSharedPerBlock) : dynamic->second;
  return call.result(cudaSuccess);
}

// By shared memory and threads alone: registers are unknown here.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* /*kernel*/,
                                                          int block_size, size_t dynamic_shared) {
  Call call("cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  if (call.failed()) return call.result();
  const Card& card = Runtime::get().card;
  if (block_size <= 0 || block_size > 1024) return call.result(cudaErrorInvalidValue);
  const int by_threads = threads_per_multiprocessor(card) / block_size;
  const auto by_shared = static_cast<int>(static_cast<size_t>(card.shared_per_multiprocessor) /
                                          (dynamic_shared + 1024));
  *blocks = by_threads < by_shared ? by_threads : by_shared;
  return call.result(cudaSuccess);
}
