// Attention over the paged cache and inside encoder sequences: cuts the batch into blocks of query
// rows (and, where these are few, the context into splits) and spreads them over the pool.
// Used by the engine thread.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "cpu/kernels/kernels.h"
#include "cpu/step_plan.h"
#include "cpu/thread_pool.h"
#include "cpu/workspace.h"

namespace pelton::cpu {

class Attention {
 public:
  Attention(const KernelTable& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  void run(const AttentionParams& params);
  void run_encoder(const EncoderAttentionParams& params);

 private:
  // What the two have in common.
  struct Work {
    const CpuStepPlan* plan;
    Tensor q;
    Tensor out;
    int group;   // query heads a KV head
    int window;  // 0: none
    bool causal;
    const float* sinks;
    AttentionArgs args;  // scale, softcap, dtype, sizes; the rest is each block's own
  };
  void plan_blocks(const Work& work, int num_kv_heads);
  // Rows, ranges and pointers of one block; `args.keys` and the block table are set by the caller.
  struct BlockRows;
  void fill_rows(const Work& work, const AttentionBlock& block, BlockRows& rows) const;
  // set_keys(block, args) points the arguments at the block's keys.
  template <typename SetKeys>
  void run_blocks(const Work& work, const SetKeys& set_keys);
  void finish_rows(const Work& work, const AttentionBlock& block,
                   const AttentionState* states) const;

  const KernelTable& kernels_;
  ThreadPool& pool_;
  std::vector<AttentionBlock> blocks_;
  std::vector<int64_t> first_piece_;  // [blocks + 1] prefix sum of their splits
  Scratch states_;
  Scratch encoder_kv_;
};

}  // namespace pelton::cpu
