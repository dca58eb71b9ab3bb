#include "cuda/step_graphs.h"

#include <algorithm>
#include <utility>

#include "cuda/cuda_status.h"

namespace pelton::cuda {
namespace {

constexpr int kLargestRecorded = 256;

}  // namespace

void StepGraphs::set_limit(int max_seqs) {
  sizes_.clear();
  graphs_.clear();
  const int limit = std::min(max_seqs, kLargestRecorded);
  for (const int size : {1, 2, 4}) {
    if (size < limit) sizes_.push_back(size);
  }
  for (int size = 8; size < limit; size += 8) sizes_.push_back(size);
  if (limit > 0) sizes_.push_back(limit);
  std::reverse(sizes_.begin(), sizes_.end());
}

int StepGraphs::fitting(int seqs, bool to_be_recorded) const {
  if (to_be_recorded) {
    return std::find(sizes_.begin(), sizes_.end(), seqs) != sizes_.end() ? seqs : 0;
  }
  const auto found = graphs_.lower_bound(seqs);
  return found == graphs_.end() ? 0 : found->first;
}

Status StepGraphs::begin_recording(int seqs) {
  // Thread-local: loading and other models' engines may use the runtime meanwhile.
  PELTON_RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                              "recording a step");
  recording_ = seqs;
  return Status();
}

Status StepGraphs::end_recording() {
  if (recording_ == 0) return Status();
  const int seqs = std::exchange(recording_, 0);
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &captured);
  const Graph graph(captured);
  PELTON_RETURN_IF_CUDA_ERROR(ended, "recording a step");
  cudaGraphExec_t executable = nullptr;
  PELTON_RETURN_IF_CUDA_ERROR(cudaGraphInstantiate(&executable, graph.get(), 0),
                              "recording a step");
  graphs_[seqs] = GraphExec(executable);
  return Status();
}

Status StepGraphs::replay(int seqs) {
  const auto found = graphs_.find(seqs);
  if (found == graphs_.end()) return absl::InternalError("a step that was not recorded");
  return cuda_status(cudaGraphLaunch(found->second.get(), stream_), "replaying a step");
}

}  // namespace pelton::cuda
