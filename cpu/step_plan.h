// A batch as the CPU backend keeps it, with what attention derives from it. Engine thread only.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "cpu/workspace.h"

namespace pelton::cpu {

// A block of query rows of one sequence that share a KV head. Row i is token i / group of the
// sequence's new tokens and query head kv_head * group + i % group.
struct AttentionBlock {
  int seq = 0;
  int kv_head = 0;
  int first_row = 0;
  int rows = 0;
  int first_split = 0;
  int last_split = 0;
};

class CpuStepPlan final : public StepPlan {
 public:
  Batch batch;
  uint64_t serial = 0;  // tells one step's plan from the next

  int new_tokens(int seq) const {
    return batch.query_start_loc[seq + 1] - batch.query_start_loc[seq];
  }
};

// cos and sin are made once a step for its positions, not held for every position there is.
class CpuRopeTable final : public RopeTable {
 public:
  explicit CpuRopeTable(RopeSpec spec) : spec_(std::move(spec)) {}
  const RopeSpec& spec() const { return spec_; }
  int pairs() const { return static_cast<int>(spec_.inverse_frequencies.size()); }
  // Row m: cos [pairs], then sin [pairs], for the position of the step's token m.
  const float* row(int m) const { return values_ + static_cast<int64_t>(m) * 2 * pairs(); }

  // False: the plan's values are there already.
  bool begin_step(const CpuStepPlan& plan) {
    if (plan.serial == serial_) return false;
    serial_ = plan.serial;
    values_ = scratch_.floats(static_cast<int64_t>(plan.batch.num_tokens()) * 2 * pairs());
    return true;
  }
  void fill_row(int m, int position);

 private:
  RopeSpec spec_;
  Scratch scratch_;
  float* values_ = nullptr;
  uint64_t serial_ = 0;
};

}  // namespace pelton::cpu
