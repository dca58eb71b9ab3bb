// Owners of the runtime's objects: streams, events, graphs, pinned memory. Empty unless created;
// given back with the owner.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/status.h"
#include "cuda/cuda_status.h"

namespace pelton::cuda {

template <typename Handle, cudaError_t (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Owned() { reset(); }

  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }
  void reset() {
    if (handle_ != nullptr) kDestroy(std::exchange(handle_, nullptr));
  }

 private:
  Handle handle_ = nullptr;
};

using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using Graph = Owned<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

inline StatusOr<Stream> make_stream() {
  cudaStream_t stream = nullptr;
  PELTON_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                              "creating a stream");
  return Stream(stream);
}
inline StatusOr<Event> make_event() {
  cudaEvent_t event = nullptr;
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                              "creating an event");
  return Event(event);
}

inline StatusOr<Event> make_timing_event() {
  cudaEvent_t event = nullptr;
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventCreate(&event), "creating an event");
  return Event(event);
}

// Page-locked host memory: what copies read and write while the host goes on.
class Pinned {
 public:
  static StatusOr<Pinned> make(int64_t bytes) {
    void* data = nullptr;
    if (bytes > 0) {
      PELTON_RETURN_IF_CUDA_ERROR(
          cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault),
          "taking page-locked host memory");
    }
    return Pinned(data, bytes);
  }
  Pinned() = default;
  std::byte* data() const { return static_cast<std::byte*>(data_.get()); }
  int64_t bytes() const { return bytes_; }

 private:
  Pinned(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  Owned<void*, cudaFreeHost> data_;
  int64_t bytes_ = 0;
};

}  // namespace pelton::cuda
