#include "scheduler/batch_builder.h"

#include <algorithm>

namespace pelton {
namespace {

void add_tokens(const PlannedRun& run, StepBatch& out) {
  Batch& batch = out.batch;
  Sequence& sequence = *run.sequence;
  const int end = run.first + run.count;
  const int row_base = batch.num_tokens() - run.first;
  batch.tokens.insert(batch.tokens.end(), sequence.tokens.begin() + run.first,
                      sequence.tokens.begin() + end);
  if (sequence.drawn_row >= 0 && end == sequence.num_tokens()) {
    batch.drawn.push_back({batch.num_tokens() - 1, sequence.drawn_row});
  }
  for (int position = run.first; position < end; ++position) batch.positions.push_back(position);
  batch.query_start_loc.push_back(batch.num_tokens());
  batch.seq_lens.push_back(end);
  for (int position = std::max(run.first, sequence.num_scored);
       position < std::min(end, sequence.score_end); ++position) {
    batch.logit_rows.push_back(row_base + position);
    out.rows.push_back({&sequence, position, false});
  }
  if (end == sequence.num_tokens()) {
    batch.logit_rows.push_back(row_base + end - 1);
    out.rows.push_back({&sequence, end - 1, true});
  }
}

void add_group(std::span<const PlannedRun> plan, size_t group, int block_size, GroupBatch& out) {
  size_t width = 0;
  for (const PlannedRun& run : plan) {
    width = std::max(width, run.sequence->tables[group].blocks.size());
  }
  out.max_blocks_per_seq = static_cast<int32_t>(width);
  out.block_tables.assign(plan.size() * width, -1);
  int32_t* row = out.block_tables.data();
  for (const PlannedRun& run : plan) {
    const KvTable& table = run.sequence->tables[group];
    for (size_t i = static_cast<size_t>(table.first_live); i < table.blocks.size(); ++i) {
      row[i] = table.blocks[i].id().value;
    }
    for (int position = run.first; position < run.first + run.count; ++position) {
      out.slot_mapping.push_back(row[position / block_size] * block_size + position % block_size);
    }
    for (const KvTable::Copy& copy : table.copies) {
      out.copies.push_back({copy.from.id(), copy.to});
    }
    row += width;
  }
}

}  // namespace

void build_batch(std::span<const PlannedRun> plan, int num_groups, int block_size, StepBatch& out) {
  Batch& batch = out.batch;
  batch.tokens.clear();
  batch.positions.clear();
  batch.query_start_loc.assign(1, 0);
  batch.seq_lens.clear();
  batch.logit_rows.clear();
  batch.adapters.clear();
  batch.drawn.clear();
  batch.kv.resize(static_cast<size_t>(num_groups));
  out.rows.clear();
  for (const PlannedRun& run : plan) add_tokens(run, out);
  const bool adapted = std::any_of(plan.begin(), plan.end(), [](const PlannedRun& run) {
    return run.sequence->adapter != AdapterId(0);
  });
  for (const PlannedRun& run : plan) {
    if (adapted) batch.adapters.push_back(run.sequence->adapter);
  }
  for (size_t g = 0; g < batch.kv.size(); ++g) {
    batch.kv[g].slot_mapping.clear();
    batch.kv[g].copies.clear();
    add_group(plan, g, block_size, batch.kv[g]);
  }
}

}  // namespace pelton
