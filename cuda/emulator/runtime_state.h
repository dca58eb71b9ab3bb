// What the emulated runtime's functions share: streams with their queues, events, graphs, the card,
// faults. One for the process, as CUDA's own is; everything under one lock (Call holds it).
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cuda/emulator/device_memory.h"
#include "cuda/emulator/emulator.h"
#include "cuda/emulator/stream_work.h"

namespace pelton::cuda::emulator {

struct StreamState;

// An operation is to run after the operation `ticket` of another stream.
struct Dependency {
  std::shared_ptr<StreamState> stream;
  uint64_t ticket = 0;
};

struct Operation {
  Work work;
  std::vector<Dependency> after;
};

struct Graph {
  std::vector<Operation> nodes;  // in an order that is legal
};

struct Capture {
  Graph graph;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  StreamState* origin = nullptr;
  std::set<StreamState*> joined;  // streams that wait for its events; rejoined when it ends
  std::set<StreamState*> forked;  // of these, with nodes that the origin has not waited for
  bool invalid = false;
};

struct StreamState {
  std::deque<Operation> queue;
  std::vector<Dependency> pending_waits;  // of the next operation
  uint64_t issued = 0;                    // tickets given out: 1, 2, ..
  uint64_t done = 0;
  bool blocking = false;  // ordered with the default stream
  std::shared_ptr<Capture> capture;
};

struct EventState {
  bool timing = true;
  Dependency recorded;  // no stream: never recorded
  std::shared_ptr<Capture> capture;
  StreamState* captured_in = nullptr;
  std::shared_ptr<std::chrono::steady_clock::time_point> time;
};

class Runtime {
 public:
  static Runtime& get();

  std::recursive_mutex mutex;
  Card card;
  DeviceMemory memory;
  std::map<void*, size_t> pinned;
  std::shared_ptr<StreamState> default_stream;
  std::unordered_map<cudaStream_t, std::shared_ptr<StreamState>> streams;
  std::set<cudaEvent_t> events;
  std::set<cudaGraph_t> graphs;
  std::set<cudaGraphExec_t> executables;
  std::set<void*> library_handles;
  std::unordered_map<const void*, int> dynamic_shared;  // as cudaFuncSetAttribute left it
  std::vector<std::shared_ptr<Capture>> captures;       // in progress

  int64_t calls = 0;
  int64_t mallocs = 0;
  int64_t pageable_copies = 0;
  std::set<const void*> run_before;            // kernels launched outside of a capture
  std::vector<std::string> first_in_captures;  // those that were not when one was captured
  int64_t fail_in = 0;                         // calls until the fault; 0: none
  cudaError_t fault = cudaSuccess;
  bool fault_sticky = false;
  std::string failed_call;
  std::string loss_file;  // once it exists the device is lost; empty: none
  cudaError_t device_error = cudaSuccess;
  std::string device_error_source;
  bool executing = false;

  // Null: no such stream.
  std::shared_ptr<StreamState> stream(cudaStream_t handle) const;
  cudaError_t add(cudaStream_t handle, Work work);
  cudaError_t add(cudaStream_t handle, std::string name, std::function<cudaError_t()> run);
  void run_until(StreamState& stream, uint64_t ticket);
  void run_all();
  // A stream order drawn by the seed lets some work go on.
  void stir();
  void set_order(uint64_t seed);
  void drop_everything(const Card& next);
  // An error for a call that no capture in progress allows; it spoils the capture.
  cudaError_t refuse_in_capture();

 private:
  Runtime();
  uint64_t order_seed_ = 0;
  std::mt19937_64 order_;
};

// One call of the API: takes the lock, counts, fails where a fault is planted or the device is
// lost. `Kind` says whether a capture in progress forbids the call.
enum class CallKind { kPlain, kNotInCapture };
class Call {
 public:
  explicit Call(const char* name, CallKind kind = CallKind::kPlain);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  // The call is to return this at once; a call that frees does its work all the same.
  bool failed() const { return error_ != cudaSuccess; }
  cudaError_t error() const { return error_; }
  // Notes the error for cudaGetLastError.
  cudaError_t result(cudaError_t error);
  cudaError_t result() { return result(error_); }

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  cudaError_t error_ = cudaSuccess;
};
cudaError_t& last_error();  // of this thread

}  // namespace pelton::cuda::emulator
