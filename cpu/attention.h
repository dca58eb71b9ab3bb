// Attention over the paged cache and inside encoder sequences: cuts the batch into blocks of query
// rows (and, where these are few, the context into splits) and spreads them over the pool.
// Used by the engine thread.
#pragma once

#include <atomic>
#include <vector>

#include "backend/backend.h"
#include "cpu/kernels/kernels.h"
#include "cpu/step_plan.h"
#include "cpu/thread_pool.h"
#include "cpu/workspace.h"

namespace pelton::cpu {

class Attention {
 public:
  Attention(const KernelTable& kernels, ThreadPool& pool)
      : kernels_(kernels), pool_(pool), scratch_(pool.threads()) {}

  void run(const AttentionParams& params);
  // The same as a phase of a job, which has no other attention.
  void add(Job& job, const AttentionParams& params);
  void run_encoder(const EncoderAttentionParams& params);

 private:
  // What the two have in common.
  struct Work {
    const CpuStepPlan* plan;
    Tensor q;
    Tensor out;
    int group;  // query heads a KV head
    int num_kv_heads;
    int window;  // 0: none
    bool causal;
    const float* sinks;
    AttentionArgs args;  // scale, softcap, dtype, sizes; the rest is each block's own
  };
  // What one thread takes: splits [first, last) of a block.
  struct Item {
    int block;
    int first;
    int last;
    int64_t piece;  // where the states of its splits are kept apart; -1: the item is a whole block
  };
  struct BlockRows;

  void plan_items(const Work& work);
  void add_blocks(const Work& work, int seq, int rows_at_once);
  // Rows, ranges and pointers of one block; `args.keys` and the block table are set by the caller.
  void fill_rows(const Work& work, const AttentionBlock& block, BlockRows& rows) const;
  // set_keys(block, args) points the arguments at the block's keys.
  // Tells the arguments of `item` what comes after it.
  template <typename SetKeys>
  void set_next(const Work& work, const Item& item, const Item& next, const SetKeys& set_keys,
                AttentionArgs& args) const;
  // Adds the phase that computes `work_`.
  template <typename SetKeys>
  void add_items(Job& job, const SetKeys& set_keys);
  void run_whole(const Work& work, const Item& item, const AttentionArgs& args, int worker);
  // Of a block that is cut: onto the sum of the splits before, where that is there already, else
  // apart, each split on its own. Whoever sees that both are there adds the one to the other.
  void run_cut(const Work& work, int index, AttentionArgs args);
  void keep_apart(const Work& work, const Item& item, AttentionArgs args) const;
  void merge_kept(const Work& work, const Item& item) const;
  void finish_rows(const Work& work, const AttentionBlock& block,
                   const AttentionState* states) const;
  // Where the state of a split's row is kept: acc, then max and sum.
  AttentionState kept_state(const Work& work, int64_t piece, int row) const;

  const KernelTable& kernels_;
  ThreadPool& pool_;
  // The plan of the last call, which serves all layers of a step that look alike.
  struct PlanKey {
    uint64_t serial = 0;
    int num_kv_heads = 0, group = 0, window = 0;
    bool causal = false;
    bool operator==(const PlanKey&) const = default;
  };
  PlanKey planned_;
  Work work_;
  Job job_;
  std::vector<AttentionBlock> blocks_;
  std::vector<Item> items_;
  // [items] of cut blocks: how much of {the splits before are summed, its own are done} is true.
  std::vector<std::atomic<int>> ready_;
  int64_t num_pieces_ = 0;
  float* kept_ = nullptr;
  Scratch kept_scratch_;
  Scratch encoder_kv_;
  std::vector<Scratch> scratch_;  // [threads]
};

}  // namespace pelton::cpu
