// Turns a plan into the Batch that the model computes, and says whose each row of logits is.
// Engine thread only; reads sequences, changes none.
#pragma once

#include <span>
#include <vector>

#include "core/batch.h"
#include "scheduler/scheduler.h"

namespace pelton {

// One row of logits, in the order of Batch::logit_rows.
struct LogitRow {
  Sequence* sequence;
  int position;  // of the token that was read: the row scores or draws the one at position + 1
  bool draws;    // the sequence has caught up; otherwise a prompt token is scored
};

struct StepBatch {
  Batch batch;
  std::vector<LogitRow> rows;
};

// Fills `out`, whose memory is used again.
void build_batch(std::span<const PlannedRun> plan, int num_groups, int block_size, StepBatch& out);

}  // namespace pelton
