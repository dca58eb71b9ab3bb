#include <cstring>
#include <vector>

#include "cuda/emulator/device_memory.h"
#include "tests/cuda/emulator/runtime_fixture.h"

namespace pelton::cuda::emulator {

TEST_CASE_METHOD(FreshCard, "device memory is poisoned and copies bring values there and back") {
  unsigned char* device = nullptr;
  CUDA_OK(cudaMalloc(reinterpret_cast<void**>(&device), 1000));
  CHECK(reinterpret_cast<uintptr_t>(device) % 256 == 0);
  CHECK(in_device_arena(device));
  CHECK(device[0] == DeviceMemory::kPoison);
  CHECK(device[999] == DeviceMemory::kPoison);
  std::vector<char> from(1000, 7), to(1000);
  CUDA_OK(cudaMemcpy(device, from.data(), 1000, cudaMemcpyHostToDevice));
  CUDA_OK(cudaMemcpy(to.data(), device, 1000, cudaMemcpyDeviceToHost));
  CHECK(from == to);
  CHECK(cudaMemcpy(device, from.data(), 1001, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(device, from.data(), 10, cudaMemcpyDeviceToHost) ==
        cudaErrorInvalidMemcpyDirection);
  CUDA_OK(cudaFree(device));
  CHECK(cudaFree(device) == cudaErrorInvalidValue);
}

TEST_CASE_METHOD(FreshCard, "a write beyond an allocation breaks its fence") {
  unsigned char* device = nullptr;
  CUDA_OK(cudaMalloc(reinterpret_cast<void**>(&device), 1000));
  CHECK(broken_fences().empty());
  device[1000] = 1;
  CHECK(broken_fences().size() == 1);
  device[1000] = DeviceMemory::kFence;
  device[-1] = 0;
  CHECK(broken_fences().size() == 1);
  device[-1] = DeviceMemory::kFence;
  CUDA_OK(cudaFree(device));
}

TEST_CASE_METHOD(FreshCard, "memory that is not given back is reported") {
  void* device = nullptr;
  CUDA_OK(cudaMalloc(&device, 64));
  const Objects objects = live_objects();
  CHECK(objects.device_allocations == 1);
  CHECK(objects.device_bytes == 64);
  CHECK_FALSE(objects.none());
  size_t free = 0, total = 0;
  CUDA_OK(cudaMemGetInfo(&free, &total));
  CHECK(total - free == 64);
  CHECK(cudaMalloc(&device, total) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  reset();
  CHECK(live_objects().none());
}

TEST_CASE_METHOD(FreshCard,
                 "a copy from pinned memory reads it late and from pageable memory at once") {
  cudaStream_t stream = nullptr;
  CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  void *device = nullptr, *pinned = nullptr;
  CUDA_OK(cudaMalloc(&device, 8));
  CUDA_OK(cudaMallocHost(&pinned, 4));
  int pageable = 1, out = 0;
  std::memcpy(pinned, &pageable, 4);
  CUDA_OK(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream));
  CUDA_OK(cudaMemcpyAsync(static_cast<char*>(device) + 4, &pageable, 4, cudaMemcpyHostToDevice,
                          stream));
  pageable = 2;                       // a card has staged it already
  std::memcpy(pinned, &pageable, 4);  // but may still read this
  CUDA_OK(cudaMemcpyAsync(&out, device, 4, cudaMemcpyDeviceToHost, stream));  // waits
  CHECK(out == 2);
  CUDA_OK(cudaMemcpyAsync(&out, static_cast<char*>(device) + 4, 4, cudaMemcpyDeviceToHost, stream));
  CHECK(out == 1);
  CUDA_OK(cudaFree(device));
  CUDA_OK(cudaFreeHost(pinned));
  CUDA_OK(cudaStreamDestroy(stream));
}

TEST_CASE_METHOD(FreshCard, "rows are copied by their pitches") {
  cudaStream_t stream = nullptr;
  CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  char* device = nullptr;
  CUDA_OK(cudaMalloc(reinterpret_cast<void**>(&device), 64));
  CUDA_OK(cudaMemsetAsync(device, 0, 64, stream));
  const char from[6] = {1, 2, 3, 4, 5, 6};
  CUDA_OK(cudaMemcpy2DAsync(device, 16, from, 3, 3, 2, cudaMemcpyHostToDevice, stream));
  char to[4] = {};
  CUDA_OK(cudaMemcpy2DAsync(to, 2, device, 16, 2, 2, cudaMemcpyDeviceToHost, stream));
  CHECK(std::memcmp(to, "\1\2\4\5", 4) == 0);
  CHECK(cudaMemcpy2DAsync(device, 60, from, 3, 3, 3, cudaMemcpyHostToDevice, stream) ==
        cudaErrorInvalidValue);
  CUDA_OK(cudaFree(device));
  CUDA_OK(cudaStreamDestroy(stream));
}

}  // namespace pelton::cuda::emulator
