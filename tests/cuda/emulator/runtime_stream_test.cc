#include <vector>

#include "tests/cuda/emulator/runtime_fixture.h"

namespace pelton::cuda::emulator {
namespace {

struct TwoStreams : FreshCard {
  TwoStreams() {
    CUDA_OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    CUDA_OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    CUDA_OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  ~TwoStreams() {
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaEventDestroy(event);
  }
  void push(cudaStream_t stream, int value) {
    CUDA_OK(enqueue(stream, work("push", [this, value] { order.push_back(value); })));
  }
  cudaStream_t a = nullptr, b = nullptr;
  cudaEvent_t event = nullptr;
  std::vector<int> order;
};

}  // namespace

TEST_CASE_METHOD(TwoStreams, "work is done when something waits for it and no earlier") {
  push(a, 1);
  push(b, 2);
  push(a, 3);
  CHECK(order.empty());
  CHECK(pending_work() == 3);
  CUDA_OK(cudaStreamSynchronize(b));
  CHECK(order == std::vector<int>{2});  // a missing wait for `a` shows
  CUDA_OK(cudaDeviceSynchronize());
  CHECK(order == std::vector<int>{2, 1, 3});
}

TEST_CASE_METHOD(TwoStreams, "a stream that waits for an event sees what was before its record") {
  push(a, 1);
  CUDA_OK(cudaEventRecord(event, a));
  push(a, 2);
  CUDA_OK(cudaStreamWaitEvent(b, event, 0));
  push(b, 3);
  CUDA_OK(cudaStreamSynchronize(b));
  CHECK(order == std::vector<int>{1, 3});
  CUDA_OK(cudaEventSynchronize(event));
  CHECK(order == std::vector<int>{1, 3});
  CUDA_OK(cudaStreamSynchronize(a));
  CHECK(order == std::vector<int>{1, 3, 2});
}

TEST_CASE_METHOD(TwoStreams, "polling an event or a stream gets on") {
  push(a, 1);
  push(a, 2);
  CUDA_OK(cudaEventRecord(event, a));
  int polls = 1;
  while (cudaEventQuery(event) == cudaErrorNotReady) ++polls;
  CHECK(polls == 3);
  CHECK(order == std::vector<int>{1, 2});
  push(a, 3);
  push(a, 4);
  CHECK(cudaStreamQuery(a) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(a) == cudaSuccess);
  CHECK(cudaGetLastError() == cudaErrorNotReady);  // for who looks at the last error alone
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE_METHOD(TwoStreams, "orders drawn by a seed differ and keep each stream's own") {
  std::vector<std::vector<int>> seen;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    set_stream_order(seed);
    order.clear();
    for (int i = 0; i < 4; ++i) {
      push(a, i);
      push(b, 10 + i);
    }
    CUDA_OK(cudaDeviceSynchronize());
    std::vector<int> of_a, of_b;
    for (int v : order) (v < 10 ? of_a : of_b).push_back(v);
    CHECK(of_a == std::vector<int>{0, 1, 2, 3});
    CHECK(of_b == std::vector<int>{10, 11, 12, 13});
    seen.push_back(order);
  }
  set_stream_order(0);
  CHECK(std::any_of(seen.begin(), seen.end(), [&](const auto& o) { return o != seen[0]; }));
}

TEST_CASE_METHOD(TwoStreams, "a fault of the device is sticky and named") {
  Work bad;
  bad.name = "bad kernel";
  bad.run = [] { return cudaErrorIllegalAddress; };
  CUDA_OK(enqueue(a, bad));
  push(a, 1);
  CHECK(cudaStreamSynchronize(a) == cudaErrorIllegalAddress);
  CHECK(order.empty());
  CHECK(device_error_source() == "bad kernel");
  void* device = nullptr;
  CHECK(cudaMalloc(&device, 8) == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
}

TEST_CASE_METHOD(TwoStreams, "the call that is asked for fails and only that one") {
  fail_call(2, cudaErrorUnknown);
  push(a, 1);
  CHECK(cudaEventRecord(event, a) == cudaErrorUnknown);
  CHECK(failed_call() == "cudaEventRecord");
  CUDA_OK(cudaEventRecord(event, a));
  fail_call(1, cudaErrorECCUncorrectable, true);
  CHECK(cudaStreamSynchronize(a) == cudaErrorECCUncorrectable);
  CHECK(cudaStreamSynchronize(a) == cudaErrorECCUncorrectable);
}

TEST_CASE_METHOD(TwoStreams, "a captured graph replays its work and can be updated by one alike") {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  const auto capture = [&](int value) {
    CUDA_OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    push(a, value);
    CUDA_OK(cudaEventRecord(event, a));
    CUDA_OK(cudaStreamWaitEvent(b, event, 0));
    push(b, value + 1);
    CUDA_OK(cudaEventRecord(event, b));
    CUDA_OK(cudaStreamWaitEvent(a, event, 0));
    CUDA_OK(cudaStreamEndCapture(a, &graph));
  };
  capture(1);
  CHECK(order.empty());
  CUDA_OK(cudaGraphInstantiate(&executable, graph, 0));
  CUDA_OK(cudaGraphDestroy(graph));
  CUDA_OK(cudaGraphLaunch(executable, a));
  CUDA_OK(cudaGraphLaunch(executable, a));
  capture(5);
  cudaGraphExecUpdateResultInfo info;
  CUDA_OK(cudaGraphExecUpdate(executable, graph, &info));
  CUDA_OK(cudaGraphLaunch(executable, b));
  CUDA_OK(cudaStreamSynchronize(a));  // what was launched before the update is as it was
  CHECK(order == std::vector<int>{1, 2, 1, 2});
  CUDA_OK(cudaStreamSynchronize(b));
  CHECK(order == std::vector<int>{1, 2, 1, 2, 5, 6});
  CUDA_OK(cudaGraphDestroy(graph));
  CUDA_OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
  push(a, 1);
  CUDA_OK(cudaStreamEndCapture(a, &graph));
  CHECK(cudaGraphExecUpdate(executable, graph, &info) == cudaErrorGraphExecUpdateFailure);
  CUDA_OK(cudaGraphDestroy(graph));
  CUDA_OK(cudaGraphExecDestroy(executable));
}

TEST_CASE_METHOD(TwoStreams, "an illegal call during a capture is refused and spoils it") {
  cudaGraph_t graph = nullptr;
  void* device = nullptr;
  CUDA_OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
  push(a, 1);
  CHECK(cudaMalloc(&device, 8) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated);
  CUDA_OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
  CHECK(cudaStreamSynchronize(b) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated);
  // A relaxed capture lets memory be taken, and still cannot be waited for.
  CUDA_OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeRelaxed));
  CUDA_OK(cudaMalloc(&device, 8));
  CHECK(cudaStreamSynchronize(a) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated);
  CUDA_OK(cudaFree(device));
  // Work that was forked off and not joined again.
  CUDA_OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
  CUDA_OK(cudaEventRecord(event, a));
  CUDA_OK(cudaStreamWaitEvent(b, event, 0));
  push(b, 1);
  CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(order.empty());
}

TEST_CASE("the card says what it is and whether there is one") {
  for (const auto& [name, major, minor] :
       {std::tuple{"sm_80", 8, 0}, {"sm_89", 8, 9}, {"sm_90", 9, 0}, {"sm_120", 12, 0}}) {
    reset(card_named(name));
    cudaDeviceProp properties;
    CUDA_OK(cudaGetDeviceProperties(&properties, 0));
    CHECK(properties.major == major);
    CHECK(properties.minor == minor);
    int value = 0;
    CUDA_OK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
    CHECK(value == major);
    CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrIntegrated, 0) == cudaErrorNotSupported);
  }
  int count = 5;
  reset(card_named("none"));
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  reset(card_named("no_driver"));
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  reset(card_named("sm_90"));
}

}  // namespace pelton::cuda::emulator
