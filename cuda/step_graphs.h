// Decode steps recorded as CUDA graphs, one for each number of sequences of a fixed list, and their
// replay. Engine thread.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <vector>

#include "core/status.h"
#include "cuda/handles.h"

namespace pelton::cuda {

class StepGraphs {
 public:
  explicit StepGraphs(cudaStream_t stream) : stream_(stream) {}

  // Steps of up to so many sequences are recorded; 0: none.
  void set_limit(int max_seqs);
  // The numbers of sequences to be recorded, largest first: the largest takes the memory that the
  // others then share.
  const std::vector<int>& sizes() const { return sizes_; }
  // The recorded size for a decode step of `seqs` sequences: the smallest that holds them; 0: none.
  // Before all are recorded, the very number itself where it is to be.
  int fitting(int seqs, bool to_be_recorded) const;

  Status begin_recording(int seqs);
  // Nothing where no recording was begun.
  Status end_recording();
  Status replay(int seqs);

 private:
  const cudaStream_t stream_;
  std::vector<int> sizes_;
  std::map<int, GraphExec> graphs_;
  int recording_ = 0;
};

}  // namespace pelton::cuda
