// The emulated runtime: streams and events.
#include <cuda_runtime_api.h>

#include "cuda/emulator/runtime_state.h"

using pelton::cuda::emulator::Call;
using pelton::cuda::emulator::CallKind;
using pelton::cuda::emulator::Capture;
using pelton::cuda::emulator::EventState;
using pelton::cuda::emulator::Runtime;
using pelton::cuda::emulator::StreamState;

// CUDA's handles are pointers to these.
struct CUstream_st {};
struct CUevent_st {
  EventState state;
};

namespace {

cudaError_t create_stream(cudaStream_t* out, unsigned int flags) {
  Runtime& runtime = Runtime::get();
  if (flags != cudaStreamDefault && flags != cudaStreamNonBlocking) return cudaErrorInvalidValue;
  auto state = std::make_shared<StreamState>();
  state->blocking = flags == cudaStreamDefault;
  *out = new CUstream_st;
  runtime.streams.emplace(*out, std::move(state));
  return cudaSuccess;
}

// A stream that captures cannot be waited for; the attempt spoils the capture.
cudaError_t refuse_capturing(StreamState& stream) {
  if (stream.capture == nullptr) return cudaSuccess;
  stream.capture->invalid = true;
  return cudaErrorStreamCaptureUnsupported;
}

EventState* event_state(cudaEvent_t event) {
  return Runtime::get().events.contains(event) ? &event->state : nullptr;
}

cudaError_t create_event(cudaEvent_t* out, unsigned int flags) {
  *out = new CUevent_st;
  (*out)->state.timing = (flags & cudaEventDisableTiming) == 0;
  Runtime::get().events.insert(*out);
  return cudaSuccess;
}

// The stream joins the capture that the event was recorded in.
cudaError_t join_capture(StreamState& stream, const EventState& event) {
  if (stream.capture != nullptr && stream.capture != event.capture) {
    stream.capture->invalid = true;
    return cudaErrorStreamCaptureMerge;
  }
  Capture& capture = *event.capture;
  if (&stream == capture.origin) {
    capture.forked.erase(event.captured_in);
  } else {
    stream.capture = event.capture;
    capture.joined.insert(&stream);
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  Call call("cudaStreamCreate", CallKind::kNotInCapture);
  *stream = nullptr;
  return call.failed() ? call.result() : call.result(create_stream(stream, cudaStreamDefault));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  Call call("cudaStreamCreateWithFlags", CallKind::kNotInCapture);
  *stream = nullptr;
  return call.failed() ? call.result() : call.result(create_stream(stream, flags));
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
  Call call("cudaStreamCreateWithPriority", CallKind::kNotInCapture);
  *stream = nullptr;
  return call.failed() ? call.result() : call.result(create_stream(stream, flags));
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Call call("cudaStreamDestroy");
  Runtime& runtime = Runtime::get();
  const std::shared_ptr<StreamState> state = runtime.stream(stream);
  if (stream == nullptr || state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (!runtime.executing) runtime.run_until(*state, state->issued);
  if (state->capture != nullptr) {
    state->capture->invalid = true;
    std::erase(runtime.captures, state->capture);
  }
  runtime.streams.erase(stream);
  delete stream;
  return call.result();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Call call("cudaStreamSynchronize", CallKind::kNotInCapture);
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  const std::shared_ptr<StreamState> state = runtime.stream(stream);
  if (state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = refuse_capturing(*state); error != cudaSuccess) {
    return call.result(error);
  }
  runtime.run_until(*state, state->issued);
  return call.result(runtime.device_error);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Call call("cudaStreamQuery", CallKind::kNotInCapture);
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  const std::shared_ptr<StreamState> state = runtime.stream(stream);
  if (state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = refuse_capturing(*state); error != cudaSuccess) {
    return call.result(error);
  }
  if (state->queue.empty()) return call.result(cudaSuccess);
  runtime.run_until(*state, state->done + 1);  // whoever polls gets on
  if (runtime.device_error != cudaSuccess) return call.result(runtime.device_error);
  return call.result(state->queue.empty() ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int /*flags*/) {
  Call call("cudaStreamWaitEvent");
  if (call.failed()) return call.result();
  const std::shared_ptr<StreamState> state = Runtime::get().stream(stream);
  const EventState* recorded = event_state(event);
  if (state == nullptr || recorded == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (recorded->capture != nullptr) return call.result(join_capture(*state, *recorded));
  if (state->capture != nullptr) {
    state->capture->invalid = true;  // work outside of the graph
    return call.result(cudaErrorStreamCaptureIsolation);
  }
  if (recorded->recorded.stream != nullptr) state->pending_waits.push_back(recorded->recorded);
  return call.result(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  Call call("cudaLaunchHostFunc");
  if (call.failed()) return call.result();
  return call.result(Runtime::get().add(stream, "host function", [function, data] {
    function(data);
    return cudaSuccess;
  }));
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  Call call("cudaEventCreate");
  *event = nullptr;
  return call.failed() ? call.result() : call.result(create_event(event, cudaEventDefault));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  Call call("cudaEventCreateWithFlags");
  *event = nullptr;
  return call.failed() ? call.result() : call.result(create_event(event, flags));
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Call call("cudaEventDestroy");
  if (Runtime::get().events.erase(event) == 0) return call.result(cudaErrorInvalidResourceHandle);
  delete event;
  return call.result();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Call call("cudaEventRecord");
  if (call.failed()) return call.result();
  const std::shared_ptr<StreamState> state = Runtime::get().stream(stream);
  EventState* recorded = event_state(event);
  if (state == nullptr || recorded == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  recorded->capture = state->capture;
  recorded->captured_in = state.get();
  if (state->capture != nullptr) return call.result(cudaSuccess);
  auto time = std::make_shared<std::chrono::steady_clock::time_point>();
  recorded->time = time;
  const cudaError_t error = Runtime::get().add(stream, "event", [time] {
    *time = std::chrono::steady_clock::now();
    return cudaSuccess;
  });
  recorded->recorded = {state, state->issued};
  return call.result(error);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Call call("cudaEventQuery");
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  EventState* state = event_state(event);
  if (state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (state->capture != nullptr) return call.result(cudaErrorCapturedEvent);
  const auto& [stream, ticket] = state->recorded;
  if (stream == nullptr || stream->done >= ticket) return call.result(cudaSuccess);
  runtime.run_until(*stream, stream->done + 1);
  if (runtime.device_error != cudaSuccess) return call.result(runtime.device_error);
  return call.result(stream->done >= ticket ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Call call("cudaEventSynchronize", CallKind::kNotInCapture);
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  EventState* state = event_state(event);
  if (state == nullptr) return call.result(cudaErrorInvalidResourceHandle);
  if (state->capture != nullptr) return call.result(cudaErrorCapturedEvent);
  if (state->recorded.stream != nullptr) {
    runtime.run_until(*state->recorded.stream, state->recorded.ticket);
  }
  return call.result(runtime.device_error);
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  Call call("cudaEventElapsedTime");
  *ms = 0;
  if (call.failed()) return call.result();
  const EventState* a = event_state(start);
  const EventState* b = event_state(end);
  if (a == nullptr || b == nullptr || a->time == nullptr || b->time == nullptr || !a->timing ||
      !b->timing) {
    return call.result(cudaErrorInvalidResourceHandle);
  }
  for (const EventState* event : {a, b}) {
    if (event->recorded.stream->done < event->recorded.ticket) {
      return call.result(cudaErrorNotReady);
    }
  }
  *ms = std::chrono::duration<float, std::milli>(*b->time - *a->time).count();
  return call.result(cudaSuccess);
}
