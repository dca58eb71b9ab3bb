// The emulated runtime: capture of a stream's work into a graph, and its replay.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "cuda/emulator/runtime_state.h"

using pelton::cuda::emulator::Call;
using pelton::cuda::emulator::CallKind;
using pelton::cuda::emulator::Capture;
using pelton::cuda::emulator::Graph;
using pelton::cuda::emulator::Operation;
using pelton::cuda::emulator::Runtime;
using pelton::cuda::emulator::StreamState;

struct CUgraph_st {
  Graph graph;
};
struct CUgraphExec_st {
  std::shared_ptr<const Graph> graph;  // shared with launches that are under way
};

namespace {

cudaError_t instantiate(cudaGraphExec_t* out, cudaGraph_t graph) {
  Runtime& runtime = Runtime::get();
  *out = nullptr;
  if (!runtime.graphs.contains(graph)) return cudaErrorInvalidValue;
  *out = new CUgraphExec_st{std::make_shared<const Graph>(graph->graph)};
  runtime.executables.insert(*out);
  return cudaSuccess;
}

bool alike(const Graph& a, const Graph& b) {
  return std::equal(a.nodes.begin(), a.nodes.end(), b.nodes.begin(), b.nodes.end(),
                    [](const Operation& x, const Operation& y) {
                      return x.work.name == y.work.name && x.work.kernel == y.work.kernel;
                    });
}

cudaError_t end_capture(StreamState& stream, cudaGraph_t* out) {
  Runtime& runtime = Runtime::get();
  const std::shared_ptr<Capture> capture = stream.capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->origin != &stream) return cudaErrorStreamCaptureUnmatched;
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id()) {
    return cudaErrorStreamCaptureWrongThread;
  }
  stream.capture = nullptr;
  for (StreamState* joined : capture->joined) joined->capture = nullptr;
  std::erase(runtime.captures, capture);
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (!capture->forked.empty()) return cudaErrorStreamCaptureUnjoined;
  *out = new CUgraph_st{std::move(capture->graph)};
  runtime.graphs.insert(*out);
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Call call("cudaStreamBeginCapture");
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  const std::shared_ptr<StreamState> state = runtime.stream(stream);
  if (state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (state == runtime.default_stream) return call.result(cudaErrorStreamCaptureUnsupported);
  if (state->capture != nullptr) return call.result(cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = state.get();
  state->capture = capture;
  runtime.captures.push_back(std::move(capture));
  return call.result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Call call("cudaStreamEndCapture");
  *graph = nullptr;
  const std::shared_ptr<StreamState> state = Runtime::get().stream(stream);
  if (state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (call.failed()) {
    // The stream leaves capture mode whatever else went wrong.
    cudaGraph_t dropped = nullptr;
    if (end_capture(*state, &dropped) == cudaSuccess) {
      Runtime::get().graphs.erase(dropped);
      delete dropped;
    }
    return call.result();
  }
  return call.result(end_capture(*state, graph));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Call call("cudaStreamIsCapturing");
  if (call.failed()) return call.result();
  const std::shared_ptr<StreamState> state = Runtime::get().stream(stream);
  if (state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  *status = state->capture == nullptr ? cudaStreamCaptureStatusNone
            : state->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  return call.result(cudaSuccess);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  Call call("cudaThreadExchangeStreamCaptureMode");
  (void)mode;
  return call.result(call.failed() ? call.error() : cudaErrorNotSupported);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  Call call("cudaGraphGetNodes");
  if (call.failed()) return call.result();
  if (!Runtime::get().graphs.contains(graph)) return call.result(cudaErrorInvalidValue);
  if (nodes != nullptr) return call.result(cudaErrorNotSupported);  // only counted here
  *count = graph->graph.nodes.size();
  return call.result(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long /*flags*/) {
  Call call("cudaGraphInstantiate");
  *executable = nullptr;
  return call.failed() ? call.result() : call.result(instantiate(executable, graph));
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long /*flags*/) {
  Call call("cudaGraphInstantiateWithFlags");
  *executable = nullptr;
  return call.failed() ? call.result() : call.result(instantiate(executable, graph));
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* info) {
  Call call("cudaGraphExecUpdate");
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  if (!runtime.executables.contains(executable) || !runtime.graphs.contains(graph)) {
    return call.result(cudaErrorInvalidValue);
  }
  *info = {};
  if (!alike(*executable->graph, graph->graph)) {
    info->result = cudaGraphExecUpdateErrorTopologyChanged;
    return call.result(cudaErrorGraphExecUpdateFailure);
  }
  info->result = cudaGraphExecUpdateSuccess;
  executable->graph = std::make_shared<const Graph>(graph->graph);
  return call.result(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  Call call("cudaGraphUpload");
  if (call.failed()) return call.result();
  return call.result(Runtime::get().executables.contains(executable) ? cudaSuccess
                                                                     : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Call call("cudaGraphLaunch");
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  if (!runtime.executables.contains(executable)) return call.result(cudaErrorInvalidValue);
  const std::shared_ptr<StreamState> state = runtime.stream(stream);
  if (state != nullptr && state->capture != nullptr) {
    state->capture->invalid = true;  // child graphs are not emulated
    return call.result(cudaErrorStreamCaptureUnsupported);
  }
  return call.result(runtime.add(stream, "graph", [graph = executable->graph] {
    for (const Operation& node : graph->nodes) {
      if (const cudaError_t error = node.work.run(); error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Call call("cudaGraphDestroy");
  if (Runtime::get().graphs.erase(graph) == 0) return call.result(cudaErrorInvalidValue);
  delete graph;
  return call.result();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Call call("cudaGraphExecDestroy");
  if (Runtime::get().executables.erase(executable) == 0) {
    return call.result(cudaErrorInvalidValue);
  }
  delete executable;
  return call.result();
}
