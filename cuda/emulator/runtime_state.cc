#include "cuda/emulator/runtime_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "cuda/emulator/settings.h"

namespace pelton::cuda::emulator {
namespace {

// PELTON_EMULATED_CARD: sm_90 and the like, none, no_driver. PELTON_EMULATED_MEMORY_MIB.
// PELTON_EMULATED_STREAM_ORDER: a seed. PELTON_EMULATED_LOSS_FILE: once it exists the card is lost.
Card card_from_environment() {
  Card card = card_named("sm_90");
  if (const char* name = std::getenv("PELTON_EMULATED_CARD")) {
    if (const Card named = card_named(name); !named.name.empty()) card = named;
  }
  if (const char* mib = std::getenv("PELTON_EMULATED_MEMORY_MIB")) {
    if (const int64_t value = std::atoll(mib); value > 0) card.memory_bytes = value << 20;
  }
  return card;
}

// Launches are checked against them.
void tell_limits(const Card& card) {
  CardLimits limits;
  limits.shared_per_block_optin = static_cast<size_t>(card.shared_per_block_optin);
  set_card_limits(limits);
}

}  // namespace

Card card_named(const std::string& name) {
  Card card;
  card.name = "emulated " + name;
  if (name == "sm_80") {
    card.major = 8, card.minor = 0;
    card.shared_per_block_optin = 163 << 10, card.shared_per_multiprocessor = 164 << 10;
    card.l2_bytes = 40 << 20;
  } else if (name == "sm_86" || name == "sm_89" || name == "sm_120") {
    card.major = name == "sm_120" ? 12 : 8;
    card.minor = name == "sm_86" ? 6 : name == "sm_89" ? 9 : 0;
    card.shared_per_block_optin = 99 << 10, card.shared_per_multiprocessor = 100 << 10;
    card.l2_bytes = 6 << 20;
  } else if (name == "sm_90" || name == "sm_100") {
    card.major = name == "sm_90" ? 9 : 10;
  } else if (name == "none") {
    card.present = false;
  } else if (name == "no_driver") {
    card.present = false, card.driver_version = 0;
  } else {
    card.name.clear();
  }
  return card;
}

Runtime& Runtime::get() {
  // Never destroyed: objects of static life may still call in at exit.
  static Runtime* runtime = new Runtime;
  return *runtime;
}

Runtime::Runtime() : card(card_from_environment()) {
  if (const char* file = std::getenv("PELTON_EMULATED_LOSS_FILE")) loss_file = file;
  tell_limits(card);
  default_stream = std::make_shared<StreamState>();
  default_stream->blocking = true;
  if (const char* seed = std::getenv("PELTON_EMULATED_STREAM_ORDER")) {
    set_order(std::strtoull(seed, nullptr, 10));
  }
}

std::shared_ptr<StreamState> Runtime::stream(cudaStream_t handle) const {
  if (handle == nullptr || handle == cudaStreamLegacy) return default_stream;
  const auto found = streams.find(handle);
  return found == streams.end() ? nullptr : found->second;
}

cudaError_t Runtime::add(cudaStream_t handle, std::string name, std::function<cudaError_t()> run) {
  Work work;
  work.name = std::move(name);
  work.run = std::move(run);
  return add(handle, std::move(work));
}

cudaError_t Runtime::add(cudaStream_t handle, Work work) {
  const std::shared_ptr<StreamState> target = stream(handle);
  if (target == nullptr) return cudaErrorInvalidResourceHandle;
  if (target->capture != nullptr) {
    Capture& capture = *target->capture;
    if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
    if (work.kernel != nullptr && !run_before.contains(work.kernel)) {
      first_in_captures.push_back(work.name);
    }
    capture.graph.nodes.push_back({std::move(work), {}});
    if (target.get() != capture.origin) capture.forked.insert(target.get());
    return cudaSuccess;
  }
  if (target == default_stream && refuse_in_capture() != cudaSuccess) {
    return cudaErrorStreamCaptureImplicit;
  }
  if (work.kernel != nullptr) run_before.insert(work.kernel);
  Operation operation{std::move(work), std::move(target->pending_waits)};
  target->pending_waits.clear();
  if (target == default_stream) {
    for (const auto& [other_handle, other] : streams) {
      if (other->blocking) operation.after.push_back({other, other->issued});
    }
  } else if (target->blocking) {
    operation.after.push_back({default_stream, default_stream->issued});
  }
  target->queue.push_back(std::move(operation));
  ++target->issued;
  stir();
  return cudaSuccess;
}

void Runtime::run_until(StreamState& stream, uint64_t ticket) {
  while (stream.done < ticket) {
    const Operation operation = std::move(stream.queue.front());
    stream.queue.pop_front();
    for (const Dependency& dependency : operation.after) {
      run_until(*dependency.stream, dependency.ticket);
    }
    if (device_error == cudaSuccess) {
      executing = true;
      const cudaError_t error = operation.work.run();
      executing = false;
      if (error != cudaSuccess) {
        device_error = error;
        device_error_source = operation.work.name;
      }
    }
    ++stream.done;
  }
}

void Runtime::run_all() {
  run_until(*default_stream, default_stream->issued);
  for (const auto& [handle, stream] : streams) run_until(*stream, stream->issued);
}

void Runtime::set_order(uint64_t seed) {
  order_seed_ = seed;
  order_.seed(seed);
}

void Runtime::stir() {
  if (order_seed_ == 0 || executing) return;
  std::vector<StreamState*> busy;
  if (!default_stream->queue.empty()) busy.push_back(default_stream.get());
  for (const auto& [handle, stream] : streams) {
    if (!stream->queue.empty()) busy.push_back(stream.get());
  }
  for (uint64_t left = order_() % 3; left > 0 && !busy.empty(); --left) {
    StreamState& stream = *busy[order_() % busy.size()];
    if (!stream.queue.empty()) run_until(stream, stream.done + 1);
  }
}

cudaError_t Runtime::refuse_in_capture() {
  cudaError_t error = cudaSuccess;
  for (const auto& capture : captures) {
    const bool forbids = capture->mode == cudaStreamCaptureModeGlobal ||
                         (capture->mode == cudaStreamCaptureModeThreadLocal &&
                          capture->thread == std::this_thread::get_id());
    if (!forbids) continue;
    capture->invalid = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

void Runtime::drop_everything(const Card& next) {
  memory.free_all();
  for (const auto& [address, bytes] : pinned) std::free(address);
  pinned.clear();
  captures.clear();
  default_stream = std::make_shared<StreamState>();
  default_stream->blocking = true;
  for (const auto& [handle, state] : streams) state->queue.clear();
  streams.clear();
  events.clear();
  graphs.clear();
  executables.clear();
  library_handles.clear();
  dynamic_shared.clear();
  run_before.clear();
  first_in_captures.clear();
  calls = mallocs = pageable_copies = fail_in = 0;
  fault = device_error = cudaSuccess;
  fault_sticky = false;
  failed_call.clear();
  device_error_source.clear();
  last_error() = cudaSuccess;
  card = next;
  tell_limits(card);
}

cudaError_t& last_error() {
  static thread_local cudaError_t error = cudaSuccess;
  return error;
}

Call::Call(const char* name, CallKind kind) : lock_(Runtime::get().mutex) {
  Runtime& runtime = Runtime::get();
  if (runtime.executing) {
    error_ = cudaErrorNotPermitted;
    return;
  }
  ++runtime.calls;
  if (!runtime.loss_file.empty() && runtime.device_error == cudaSuccess &&
      access(runtime.loss_file.c_str(), F_OK) == 0) {
    runtime.device_error = cudaErrorECCUncorrectable;
    runtime.device_error_source = "the file that stands for the loss of the card";
  }
  if (runtime.fail_in > 0 && --runtime.fail_in == 0) {
    error_ = runtime.fault;
    runtime.failed_call = name;
    if (runtime.fault_sticky) {
      runtime.device_error = runtime.fault;
      runtime.device_error_source = name;
    }
  }
  if (error_ == cudaSuccess) error_ = runtime.device_error;
  if (error_ == cudaSuccess && kind == CallKind::kNotInCapture) {
    error_ = runtime.refuse_in_capture();
  }
}

Call::~Call() {
  if (error_ == cudaSuccess) Runtime::get().stir();
}

cudaError_t Call::result(cudaError_t error) {
  return record_error(error);
}

cudaError_t enqueue(cudaStream_t stream, Work work) {
  Call call("launch");
  if (call.failed()) return call.result();
  return call.result(Runtime::get().add(stream, std::move(work)));
}

cudaError_t record_error(cudaError_t error) {
  if (error != cudaSuccess) last_error() = error;  // "not ready" too, as on a card
  return error;
}

bool is_pinned(const void* address) {
  Runtime& runtime = Runtime::get();
  std::lock_guard lock(runtime.mutex);
  const auto* byte = static_cast<const char*>(address);
  auto after = runtime.pinned.upper_bound(const_cast<void*>(address));
  if (after == runtime.pinned.begin()) return false;
  --after;
  return byte < static_cast<const char*>(after->first) + after->second;
}

}  // namespace pelton::cuda::emulator
