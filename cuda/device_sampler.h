// The host's side of sampling: rows become tasks on the card, ids stay there for the next step,
// results come back in pinned memory. One sample() is outstanding at a time. Engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "cuda/device_arena.h"
#include "cuda/handles.h"
#include "cuda/kernels/sample_tokens.h"
#include "cuda/step_clock.h"

namespace pelton::cuda {

class DeviceSampler {
 public:
  static StatusOr<std::unique_ptr<DeviceSampler>> make(std::shared_ptr<DeviceArena> arena,
                                                       cudaStream_t stream);
  Status reserve(int max_rows, int vocab);
  void seal() { sealed_ = true; }

  // logits [R, V] f32 device. `clock`, if any, is told the end of the step's kernels.
  Status sample(const Tensor& logits, std::span<const SampleRow> rows, StepClock* clock = nullptr);
  // Waits for the last sample() alone; gives its results once.
  StatusOr<std::vector<SampledToken>> collect();

  // Ids of the last sample() that collect() has not given yet. [num_drawn()] device
  const int32_t* drawn() const { return tokens_; }
  int num_drawn() const { return num_rows_; }

 private:
  DeviceSampler(std::shared_ptr<DeviceArena> arena, cudaStream_t stream);
  // Arrays of one buffer, on the card and, the same, in pinned memory.
  struct Layout {
    int64_t banned = 0, masks = 0, input_bytes = 0;  // of the input; tasks come first
    int64_t top = 0, output_bytes = 0;               // of the output; results come first
  };
  static Layout layout_of(int max_rows, int vocab, int max_banned);
  Status grow(int rows, int vocab);
  Status write_tasks(std::span<const SampleRow> rows, int vocab, SampleParams& params);

  std::shared_ptr<DeviceArena> arena_;
  const cudaStream_t stream_;
  Event done_;
  int max_rows_ = 0, vocab_ = 0, max_banned_ = 0;
  Layout layout_;
  Pinned host_input_, host_output_;
  DevicePiece input_, output_, token_piece_, work_;
  int32_t* tokens_ = nullptr;
  bool sealed_ = false;
  int num_rows_ = 0;
  int vocab_of_last_ = 0;
  std::vector<int> logprobs_;  // [num_rows_] as asked for
};

}  // namespace pelton::cuda
