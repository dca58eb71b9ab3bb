#include "bench/gpu_check/device_time.h"

#include <fmt/format.h>

#include <algorithm>

namespace pelton::bench {
namespace {

// Ends a capture and drops the graph on every way out.
class Graph {
 public:
  ~Graph() {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }
  cudaError_t capture(cudaStream_t stream, int launches,
                      const std::function<cudaError_t(int, cudaStream_t)>& launch) {
    cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) return error;
    for (int i = 0; i < launches && error == cudaSuccess; ++i) error = launch(i, stream);
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph_);
    if (error == cudaSuccess) error = ended;
    if (error == cudaSuccess) error = cudaGraphInstantiate(&executable_, graph_, 0);
    return error;
  }
  cudaGraphExec_t executable() const { return executable_; }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

Status cuda_error(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status();
  return absl::InternalError(
      fmt::format("{}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error)));
}

StatusOr<DeviceMemory> device_memory(int64_t bytes) {
  void* data = nullptr;
  PELTON_RETURN_IF_ERROR(cuda_error(cudaMalloc(&data, bytes), "cudaMalloc"));
  return DeviceMemory(data);
}

StatusOr<std::unique_ptr<DeviceTimer>> DeviceTimer::make() {
  std::unique_ptr<DeviceTimer> timer(new DeviceTimer);
  PELTON_RETURN_IF_ERROR(
      cuda_error(cudaStreamCreateWithFlags(&timer->stream_, cudaStreamNonBlocking), "stream"));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaEventCreate(&timer->begin_), "event"));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaEventCreate(&timer->end_), "event"));
  return timer;
}

DeviceTimer::~DeviceTimer() {
  if (begin_ != nullptr) cudaEventDestroy(begin_);
  if (end_ != nullptr) cudaEventDestroy(end_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

StatusOr<double> DeviceTimer::microseconds(
    int launches, int repeats, const std::function<cudaError_t(int, cudaStream_t)>& launch) {
  // What was filled on the default stream is there; kernels are loaded before one is captured.
  PELTON_RETURN_IF_ERROR(cuda_error(cudaDeviceSynchronize(), "what is measured"));
  PELTON_RETURN_IF_ERROR(cuda_error(launch(0, stream_), "launch"));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaStreamSynchronize(stream_), "kernel"));
  Graph graph;
  PELTON_RETURN_IF_ERROR(cuda_error(graph.capture(stream_, launches, launch), "capture"));
  double best = 1e18;
  for (int repeat = -1; repeat < repeats; ++repeat) {
    PELTON_RETURN_IF_ERROR(cuda_error(cudaEventRecord(begin_, stream_), "event"));
    PELTON_RETURN_IF_ERROR(cuda_error(cudaGraphLaunch(graph.executable(), stream_), "graph"));
    PELTON_RETURN_IF_ERROR(cuda_error(cudaEventRecord(end_, stream_), "event"));
    PELTON_RETURN_IF_ERROR(cuda_error(cudaStreamSynchronize(stream_), "kernel"));
    float milliseconds = 0;
    PELTON_RETURN_IF_ERROR(
        cuda_error(cudaEventElapsedTime(&milliseconds, begin_, end_), "event time"));
    if (repeat >= 0) best = std::min(best, 1e3 * milliseconds / launches);
  }
  return std::max(best, 1e-3);
}

}  // namespace pelton::bench
