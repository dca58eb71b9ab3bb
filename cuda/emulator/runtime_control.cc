#include <fmt/format.h>

#include "cuda/emulator/emulator.h"
#include "cuda/emulator/runtime_state.h"

namespace pelton::cuda::emulator {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

}  // namespace

void reset(const Card& card) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.drop_everything(card);
}

void reset() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.drop_everything(Card(runtime.card));
}

Objects live_objects() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  Objects out;
  out.device_allocations = static_cast<int64_t>(runtime.memory.count());
  out.device_bytes = static_cast<int64_t>(runtime.memory.used_bytes());
  out.pinned_allocations = static_cast<int64_t>(runtime.pinned.size());
  for (const auto& [address, bytes] : runtime.pinned) {
    out.pinned_bytes += static_cast<int64_t>(bytes);
  }
  out.streams = static_cast<int64_t>(runtime.streams.size());
  out.events = static_cast<int64_t>(runtime.events.size());
  out.graphs = static_cast<int64_t>(runtime.graphs.size());
  out.executable_graphs = static_cast<int64_t>(runtime.executables.size());
  out.library_handles = static_cast<int64_t>(runtime.library_handles.size());
  return out;
}

std::string describe(const Objects& o) {
  return fmt::format(
      "{} device allocations ({} bytes), {} pinned ({} bytes), {} streams, {} events, {} graphs, "
      "{} executable graphs, {} library handles",
      o.device_allocations, o.device_bytes, o.pinned_allocations, o.pinned_bytes, o.streams,
      o.events, o.graphs, o.executable_graphs, o.library_handles);
}

int64_t calls() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.calls;
}

int64_t device_allocations_made() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.mallocs;
}

void fail_call(int64_t n, cudaError_t error, bool sticky) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.fail_in = n;
  runtime.fault = error;
  runtime.fault_sticky = sticky;
  runtime.failed_call.clear();
}

std::string failed_call() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.failed_call;
}

void set_stream_order(uint64_t seed) {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  runtime.set_order(seed);
}

int64_t pageable_copies() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.pageable_copies;
}

std::vector<std::string> first_in_captures() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.first_in_captures;
}

int64_t pending_work() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  auto sum = static_cast<int64_t>(runtime.default_stream->queue.size());
  for (const auto& [handle, stream] : runtime.streams) {
    sum += static_cast<int64_t>(stream->queue.size());
  }
  return sum;
}

std::vector<std::string> broken_fences() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.memory.broken_fences();
}

cudaError_t device_error() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.device_error;
}

std::string device_error_source() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.device_error_source;
}

}  // namespace pelton::cuda::emulator
