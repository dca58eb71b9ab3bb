// A step's batch on the card: one pinned buffer is filled and copied to one device buffer in stream
// order, so that the step before may still run. Holds the attention plan too. Engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "cuda/device_arena.h"
#include "cuda/handles.h"
#include "cuda/kernels/attention_plan.h"

namespace pelton::cuda {

class CudaStepPlan final : public StepPlan {
 public:
  // One KV group's part.
  struct Group {
    const int32_t* slots = nullptr;  // [num_tokens]
    AttentionShape shape;
    AttentionPlan plan;                    // its numbers of items; the items are on the device
    const AttentionItem* items = nullptr;  // device
  };
  int num_tokens = 0;  // of a replayed step: with its padding
  int num_seqs = 0;
  int num_logit_rows = 0;
  int recorded_seqs = 0;                // > 0: the step has this recorded shape
  const int32_t* tokens = nullptr;      // [num_tokens] device, as all that follow
  const int32_t* positions = nullptr;   // [num_tokens]
  const int32_t* seq_starts = nullptr;  // [num_seqs + 1]
  const int32_t* logit_rows = nullptr;  // [num_logit_rows]
  const int32_t* block_tables = nullptr;
  std::vector<Group> groups;
  // Attention without a cache, planned for these heads.
  struct Encoder {
    EncoderHeads heads;
    AttentionPlan plan;
    const AttentionItem* items = nullptr;  // device
  };
  Encoder encoder;

  // Host copies, for a plan that is made late.
  std::vector<int32_t> host_seq_starts, host_seq_lens, max_blocks, table_starts;
};

struct PlannerOptions {
  int num_sms = 1;
  bool batch_invariant = true;
};

class StepPlanner {
 public:
  static StatusOr<std::unique_ptr<StepPlanner>> make(std::shared_ptr<DeviceArena> arena,
                                                     cudaStream_t stream, PlannerOptions options);

  // Takes all that steps up to the limits need.
  Status reserve(const StepLimits& limits, const KvGeometry& geometry, int64_t kv_tokens);
  // From here on nothing grows: a step beyond the limits is an error.
  void seal() { sealed_ = true; }

  // `recorded_seqs` > 0: pads a decode batch to so many sequences, at the addresses that the
  // recorded step reads. `drawn`: the ids [num_drawn] that the last sample() left on the device.
  StatusOr<CudaStepPlan*> prepare(const Batch& batch, const KvGeometry& geometry, int recorded_seqs,
                                  const int32_t* drawn, int num_drawn);
  // Where reserve() did not say what heads there are: plans attention now.
  Status plan_late(CudaStepPlan& plan, int group, int num_q_heads);
  Status plan_encoder_late(CudaStepPlan& plan, const EncoderHeads& heads);
  float* partials() const { return partials_.as<float>(); }

 private:
  struct Slot {
    Pinned host;
    Event copied;
    bool used = false;
  };
  StepPlanner(std::shared_ptr<DeviceArena> arena, cudaStream_t stream, PlannerOptions options);
  AttentionShape shape_of(const KvGroup& group, int num_q_heads) const;
  void plan_encoder(const EncoderHeads& heads);
  Status may_plan_late(const CudaStepPlan& plan) const;
  // Into place `at` of late_items_.
  StatusOr<const AttentionItem*> upload_late(size_t at, const AttentionPlan& plan);
  Status grow(int64_t bytes);
  Status grow_partials(const AttentionShape& shape, int64_t rows);
  Status plan_group(int group, bool pad);
  int64_t bytes_needed(const Batch& batch) const;
  void write_step(const Batch& batch, class StepWriter& writer);

  std::shared_ptr<DeviceArena> arena_;
  const cudaStream_t stream_;
  const PlannerOptions options_;
  Slot slots_[2];
  int next_ = 0;
  DevicePiece device_;
  DevicePiece partials_;
  std::vector<DevicePiece> late_items_;  // the encoder's, then each group's
  int64_t partial_rows_ = 0;
  int num_q_heads_ = 0;   // 0: not reserved
  EncoderHeads encoder_;  // zeros: not reserved
  bool sealed_ = false;
  CudaStepPlan plan_;
};

}  // namespace pelton::cuda
