// The emulated runtime: device and pinned memory, copies, fills.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda/emulator/runtime_state.h"

using pelton::cuda::emulator::Call;
using pelton::cuda::emulator::CallKind;
using pelton::cuda::emulator::device_memory_watcher;
using pelton::cuda::emulator::in_device_arena;
using pelton::cuda::emulator::MemoryWatcher;
using pelton::cuda::emulator::Runtime;
using pelton::cuda::emulator::StreamState;

namespace {

bool is_pinned(const void* address, size_t bytes) {
  const auto& pinned = Runtime::get().pinned;
  auto after = pinned.upper_bound(const_cast<void*>(address));
  if (after == pinned.begin()) return false;
  --after;
  return static_cast<const char*>(address) + bytes <=
         static_cast<const char*>(after->first) + after->second;
}

// A matrix of bytes to be moved; `rows` of `width`.
struct Move {
  void* to;
  size_t to_pitch;
  const void* from;
  size_t from_pitch;
  size_t width;
  size_t rows;

  size_t to_span() const { return rows == 0 ? 0 : (rows - 1) * to_pitch + width; }
  size_t from_span() const { return rows == 0 ? 0 : (rows - 1) * from_pitch + width; }
};

void move_rows(const Move& m) {
  for (size_t r = 0; r < m.rows; ++r) {
    void* to = static_cast<char*>(m.to) + r * m.to_pitch;
    std::memmove(to, static_cast<const char*>(m.from) + r * m.from_pitch, m.width);
    MemoryWatcher* watcher = device_memory_watcher();
    if (watcher != nullptr && in_device_arena(to)) watcher->written(to, m.width);
  }
}

// Device memory may be freed between the call and the move: checked again when it happens.
cudaError_t do_move(const Move& m) {
  const auto& memory = Runtime::get().memory;
  if (in_device_arena(m.to) && !memory.holds(m.to, m.to_span())) return cudaErrorIllegalAddress;
  if (in_device_arena(m.from) && !memory.holds(m.from, m.from_span())) {
    return cudaErrorIllegalAddress;
  }
  move_rows(m);
  return cudaSuccess;
}

cudaError_t check_move(const Move& m, cudaMemcpyKind kind) {
  const bool to_device = in_device_arena(m.to), from_device = in_device_arena(m.from);
  const auto& memory = Runtime::get().memory;
  if (m.width > m.to_pitch || m.width > m.from_pitch) return cudaErrorInvalidPitchValue;
  if (to_device && !memory.holds(m.to, m.to_span())) return cudaErrorInvalidValue;
  if (from_device && !memory.holds(m.from, m.from_span())) return cudaErrorInvalidValue;
  const bool fits = kind == cudaMemcpyDefault ||
                    (kind == cudaMemcpyHostToDevice && to_device && !from_device) ||
                    (kind == cudaMemcpyDeviceToHost && !to_device && from_device) ||
                    (kind == cudaMemcpyDeviceToDevice && to_device && from_device) ||
                    (kind == cudaMemcpyHostToHost && !to_device && !from_device);
  return fits ? cudaSuccess : cudaErrorInvalidMemcpyDirection;
}

const char* move_name(const Move& m) {
  if (in_device_arena(m.to)) return in_device_arena(m.from) ? "copy d2d" : "copy h2d";
  return in_device_arena(m.from) ? "copy d2h" : "copy h2h";
}

cudaError_t move_async(const Move& m, cudaMemcpyKind kind, cudaStream_t stream) {
  Runtime& runtime = Runtime::get();
  if (m.width == 0 || m.rows == 0) return cudaSuccess;
  if (const cudaError_t error = check_move(m, kind); error != cudaSuccess) return error;
  const std::shared_ptr<StreamState> state = runtime.stream(stream);
  if (state == nullptr) return cudaErrorInvalidResourceHandle;
  const bool from_pageable = !in_device_arena(m.from) && !is_pinned(m.from, m.from_span());
  const bool to_pageable = !in_device_arena(m.to) && !is_pinned(m.to, m.to_span());
  if (state->capture != nullptr && (from_pageable || to_pageable)) {
    // Legal on a card, and never what is meant: the graph would read the caller's stack.
    state->capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  if (from_pageable) {
    // Staged before the call returns, as on a card.
    ++runtime.pageable_copies;
    auto copy = std::make_shared<std::vector<char>>(m.width * m.rows);
    move_rows({copy->data(), m.width, m.from, m.from_pitch, m.width, m.rows});
    Move staged = m;
    staged.from = copy->data();
    staged.from_pitch = m.width;
    return runtime.add(stream, move_name(m), [staged, copy] { return do_move(staged); });
  }
  const cudaError_t error = runtime.add(stream, move_name(m), [m] { return do_move(m); });
  if (error != cudaSuccess || !to_pageable) return error;
  runtime.run_until(*state, state->issued);  // such a copy waits
  return runtime.device_error;
}

cudaError_t fill(void* to, int value, size_t bytes, cudaStream_t stream) {
  Runtime& runtime = Runtime::get();
  if (bytes == 0) return cudaSuccess;
  if (!in_device_arena(to) || !runtime.memory.holds(to, bytes)) return cudaErrorInvalidValue;
  return runtime.add(stream, "memset", [to, value, bytes] {
    if (!Runtime::get().memory.holds(to, bytes)) return cudaErrorIllegalAddress;
    std::memset(to, value, bytes);
    if (MemoryWatcher* watcher = device_memory_watcher()) watcher->written(to, bytes);
    return cudaSuccess;
  });
}

cudaError_t pin(void** address, size_t bytes) {
  *address = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t rounded = (bytes + 4095) / 4096 * 4096;
  void* memory = std::aligned_alloc(4096, rounded);
  if (memory == nullptr) return cudaErrorMemoryAllocation;
  std::memset(memory, 0xFF, rounded);
  Runtime::get().pinned.emplace(memory, bytes);
  *address = memory;
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMalloc(void** address, size_t bytes) {
  Call call("cudaMalloc", CallKind::kNotInCapture);
  *address = nullptr;
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  ++runtime.mallocs;
  if (bytes == 0) return call.result(cudaSuccess);
  if (runtime.memory.used_bytes() + bytes > static_cast<size_t>(runtime.card.memory_bytes)) {
    return call.result(cudaErrorMemoryAllocation);
  }
  *address = runtime.memory.allocate(bytes);
  return call.result(*address != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* address) {
  Call call("cudaFree", CallKind::kNotInCapture);
  if (address == nullptr) return call.result();
  Runtime& runtime = Runtime::get();
  if (!runtime.executing) runtime.run_all();  // a card waits for what may still use it
  if (!runtime.memory.free(address)) return call.result(cudaErrorInvalidValue);
  return call.result();
}

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned int /*flags*/) {
  Call call("cudaHostAlloc", CallKind::kNotInCapture);
  *address = nullptr;
  return call.failed() ? call.result() : call.result(pin(address, bytes));
}

cudaError_t cudaMallocHost(void** address, size_t bytes) {
  Call call("cudaMallocHost", CallKind::kNotInCapture);
  *address = nullptr;
  return call.failed() ? call.result() : call.result(pin(address, bytes));
}

cudaError_t cudaFreeHost(void* address) {
  Call call("cudaFreeHost", CallKind::kNotInCapture);
  if (address == nullptr) return call.result();
  Runtime& runtime = Runtime::get();
  if (!runtime.executing) runtime.run_all();
  if (runtime.pinned.erase(address) == 0) return call.result(cudaErrorInvalidValue);
  std::free(address);
  return call.result();
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Call call("cudaMemGetInfo");
  *free = *total = 0;
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  *total = static_cast<size_t>(runtime.card.memory_bytes);
  *free = *total - runtime.memory.used_bytes();
  return call.result(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Call call("cudaMemcpyAsync");
  if (call.failed()) return call.result();
  return call.result(move_async({to, bytes, from, bytes, bytes, 1}, kind, stream));
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  Call call("cudaMemcpy2DAsync");
  if (call.failed()) return call.result();
  return call.result(move_async({to, to_pitch, from, from_pitch, width, rows}, kind, stream));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  Call call("cudaMemcpy", CallKind::kNotInCapture);
  if (call.failed()) return call.result();
  Runtime& runtime = Runtime::get();
  const cudaError_t error = move_async({to, bytes, from, bytes, bytes, 1}, kind, nullptr);
  if (error != cudaSuccess) return call.result(error);
  runtime.run_until(*runtime.default_stream, runtime.default_stream->issued);
  return call.result(runtime.device_error);
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  Call call("cudaMemset", CallKind::kNotInCapture);
  if (call.failed()) return call.result();
  return call.result(fill(to, value, bytes, nullptr));
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  Call call("cudaMemsetAsync");
  if (call.failed()) return call.result();
  return call.result(fill(to, value, bytes, stream));
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  Call call("cudaPointerGetAttributes");
  if (call.failed()) return call.result();
  *attributes = {};
  attributes->type = in_device_arena(address) ? cudaMemoryTypeDevice
                     : is_pinned(address, 1)  ? cudaMemoryTypeHost
                                              : cudaMemoryTypeUnregistered;
  return call.result(cudaSuccess);
}
