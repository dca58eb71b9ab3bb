// Decides what each step computes. There are no phases: every sequence catches its computed tokens
// up to its tokens, under one token budget a step; chunked prefill, prefix hits and preemption are
// the same thing. Engine thread only; owns all sequences. Reads no clock and no randomness.
#pragma once

#include <algorithm>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/load.h"
#include "core/status.h"
#include "scheduler/kv_block_manager.h"
#include "scheduler/sequence.h"

namespace pelton {

struct SchedulerOptions {
  int max_model_len = 2048;
  int max_num_seqs = 64;
  int max_num_batched_tokens = 2048;
  // Work of one step in tokens' worth of matrix products, to which prompts are cut (but a step gets
  // on with some); 0: no such bound. A token at context c costs 1 + c / context_per_token; 0: 1.
  int step_work = 0;
  int context_per_token = 0;
  int max_prompt_logprob_rows = 256;
  int max_preemptions = 4;  // of one sequence
  int max_bypass = 64;      // later arrivals preferred to one sequence
};

struct SequenceSpec {
  SequenceId id;
  std::vector<TokenId> prompt;
  int max_tokens = 16;  // cut to what max_sequence_tokens() leaves
  int priority = 0;
  std::string tenant;
  AdapterId adapter;
  TimePoint deadline = TimePoint::max();
  bool use_prefix_cache = true;
  bool score_prompt = false;  // logits of all prompt positions are wanted
};

// What the next step computes: tokens [first, first + count) of each sequence.
struct PlannedRun {
  Sequence* sequence;
  int first;
  int count;
};
using StepPlan = std::vector<PlannedRun>;

struct SchedulerStats {
  int64_t preemptions = 0;
  int64_t prefix_cache_queries = 0;  // tokens
  int64_t prefix_cache_hits = 0;
};

class Scheduler {
 public:
  // `hasher` null: no prefix cache.
  Scheduler(SchedulerOptions options, const KvGeometry& geometry, std::span<const int> num_blocks,
            std::unique_ptr<BlockHasher> hasher);

  // The longest that a sequence may become. Fixed, so any thread may ask.
  int max_sequence_tokens() const { return max_sequence_tokens_; }
  // INVALID_ARGUMENT where a prompt of this size can never be answered by a single token.
  Status check_prompt(int64_t prompt_tokens) const;

  // Queues a sequence. INVALID_ARGUMENT as above, ALREADY_EXISTS for an id in use.
  Status add(SequenceSpec spec);
  // A running sequence's twin that shares its blocks (copy-on-write). False where there is no seat
  // or others wait: then add() it.
  bool fork(SequenceId parent, SequenceId child);
  // Ends a sequence, wherever it stands; its blocks are free (pending while a step is in flight).
  // False where the id is unknown.
  bool remove(SequenceId id);
  // Ids whose deadline is not after `now`; they stay until removed.
  std::vector<SequenceId> expired(TimePoint now) const;

  // Makes the plan of a step, which is then in flight until commit(). Empty only when no sequence
  // is left, or when those that are left wait for the last token of another. Sequences removed
  // meanwhile stay valid in the plan, as kFinished.
  const StepPlan& schedule();
  // The step's KV has been written, or will be before what a later step reads or writes.
  void commit();
  // A token is being drawn for a sequence that has caught up, by that row of the step's sample().
  // The sequence may be scheduled with it; its id comes with resolve(), before the commit of the
  // step that computes it.
  void expect(Sequence& sequence, int row);
  void resolve(Sequence& sequence, TokenId token);

  // The work of the step at hand, and the bound of the steps to come: it only grows.
  double planned_work() const;
  int step_work() const { return step_work_; }
  void raise_step_work(int work) { step_work_ = std::max(step_work_, work); }

  int num_sequences() const { return static_cast<int>(sequences_.size()); }
  int num_running() const { return static_cast<int>(running_.size()); }
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  Sequence* find(SequenceId id) const;
  Load load() const;
  const SchedulerStats& stats() const { return stats_; }
  KvBlockManager& kv() { return kv_; }
  const KvBlockManager& kv() const { return kv_; }
  const SchedulerOptions& options() const { return options_; }

  Status check_integrity() const;

 private:
  struct RanksBefore {
    bool operator()(const Sequence* a, const Sequence* b) const;
  };

  // Parts of schedule().
  template <typename Chosen>
  void run_all(Chosen chosen);
  static bool outranks(const Sequence& a, const Sequence& b);
  void run(Sequence& sequence, size_t index);
  void note_starved();
  void admit();
  bool try_admit(Sequence& sequence);
  bool fits(const Sequence& sequence, int hit_tokens) const;
  bool fits_with(const Sequence& sequence, int seats, std::span<const int> gained) const;
  int tokens_to_hold(const Sequence& sequence) const;
  int available_blocks(int group) const;
  void start(Sequence& sequence, int hit_tokens, int want);
  bool make_room(const Sequence& sequence);
  // Of the step's work: what tokens cost, whether prompts may still have some, and how many of
  // `count` tokens from `first` on.
  double work_of(int first, int count) const;
  bool work_left() const;
  int limit_work(int first, int count) const;
  static int num_rows(const Sequence& sequence, int first, int count);
  int limit_rows(const Sequence& sequence, int first, int count) const;
  void schedule_tokens(Sequence& sequence, int count);

  void enqueue(Sequence& sequence);
  void leave_queue(Sequence& sequence);
  void preempt(Sequence& sequence);
  void bypass(Sequence& sequence);
  void note_bypass(const Sequence& admitted);
  void insert_running(Sequence& sequence);
  void erase_running(const Sequence& sequence);
  int hit_limit(const Sequence& sequence) const;
  void reserve(const Sequence& sequence, int sign);
  int promised_blocks(int group, const Sequence& sequence) const;

  const SchedulerOptions options_;
  KvBlockManager kv_;
  int max_sequence_tokens_;

  // Destroyed before kv_, to which the sequences give their blocks back.
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::vector<std::unique_ptr<Sequence>> removed_;  // in the plan in flight
  std::set<Sequence*, RanksBefore> waiting_;
  std::vector<Sequence*> running_;  // by rank
  std::set<std::pair<TimePoint, SequenceId>> deadlines_;
  uint64_t next_arrival_ = 1;
  int64_t waiting_uncached_tokens_ = 0;
  SchedulerStats stats_;

  // The step being made.
  StepPlan plan_;
  bool in_flight_ = false;
  uint64_t step_ = 0;
  int budget_ = 0;
  int step_work_ = 0;
  double work_left_ = 0;
  bool prompt_scheduled_ = false;
  int score_rows_ = 0;
  bool short_of_blocks_ = false;  // a running sequence was held up, or took another's blocks
  std::vector<int> reserved_;     // [groups] blocks kept for sequences preempted to the bound
  std::vector<int> promised_;     // [groups] blocks that running sequences need to catch up
};

}  // namespace pelton
