#include "tests/scheduler/simulation.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "backend/drawn_tokens.h"
#include "scheduler/batch_builder.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/kv_event_replay.h"
#include "tests/support/fake_kv_memory.h"

namespace pelton {
namespace {

constexpr int kBusySteps = 100;
constexpr int kMaxSteps = 20000;

class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  int below(int bound) { return static_cast<int>(next() % static_cast<uint64_t>(bound)); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool chance(int percent) { return below(100) < percent; }

 private:
  uint64_t next() { return mix64(state_++); }
  uint64_t state_;
};

struct Setup {
  SchedulerOptions options;
  KvGeometry geometry;
  std::vector<int> num_blocks;
  bool prefix_cache = true;
  bool priorities = false;
  bool overlap = false;  // a step is computed before the tokens of the one before it are known
  int arrival_percent = 50;
};

Setup draw_setup(Rng& rng) {
  Setup setup;
  setup.geometry.block_size = 1 << rng.below(6);  // 1 to 32
  const int groups = rng.between(1, 3);
  for (int g = 0; g < groups; ++g) {
    KvGroup group;
    if (rng.chance(50)) group.window = rng.between(2, 20);
    setup.geometry.groups.push_back(group);
    setup.num_blocks.push_back(rng.between(3, rng.chance(30) ? 60 : 20));
  }
  setup.options.max_model_len = rng.between(8, 120 + 8 * setup.geometry.block_size);
  setup.options.max_num_seqs = rng.between(1, 8);
  setup.options.max_num_batched_tokens = setup.options.max_num_seqs + rng.below(40);
  if (rng.below(2) == 0) {
    setup.options.step_work = rng.between(1, 40);
    setup.options.context_per_token = rng.below(3) * 10;
  }
  setup.options.max_prompt_logprob_rows = rng.between(1, 10);
  setup.options.max_bypass = rng.between(1, 12);
  setup.prefix_cache = rng.chance(80);
  setup.priorities = rng.chance(50);
  setup.overlap = rng.chance(50);
  setup.arrival_percent = rng.between(5, 95);
  return setup;
}

std::unique_ptr<BlockHasher> make_hasher(bool wanted) {
  if (!wanted) return nullptr;
  return *BlockHasher::create({});
}

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : rng_(mix64(seed)),
        setup_(draw_setup(rng_)),
        scheduler_(setup_.options, setup_.geometry, setup_.num_blocks,
                   make_hasher(setup_.prefix_cache)),
        memory_(setup_.geometry, setup_.num_blocks) {}

  SimulationResult run() {
    for (int i = 0; result_.failure.empty(); ++i) {
      if (i < kBusySteps) {
        arrive();
      } else if (scheduler_.num_sequences() == 0) {
        break;
      }
      if (i > kMaxSteps) fail("the trace never ends");
      step();
    }
    if (result_.failure.empty()) finish();
    result_.preemptions = scheduler_.stats().preemptions;
    result_.hits = scheduler_.stats().prefix_cache_hits;
    return result_;
  }

 private:
  struct Live {
    std::string tenant;
    int forced_end = 0;  // ends by itself at this many tokens
    int bypassed = 0;
    uint64_t arrival = 0;
    bool waiting = true;
    bool bypassable = false;
  };

  void fail(std::string_view what) {
    if (result_.failure.empty()) result_.failure = fmt::format("step {}: {}", result_.steps, what);
  }
  void check(bool holds, std::string_view what) {
    if (!holds) fail(what);
  }
  void check(const Status& status) {
    if (!status.ok()) fail(std::string(status.message()));
  }
  void trace(uint64_t value) { result_.trace_hash = mix64(result_.trace_hash ^ value); }

  // Prompts begin like one of a few texts, so that prefixes are shared, across tenants too.
  std::vector<TokenId> draw_prompt() {
    const int most = std::max(1, scheduler_.max_sequence_tokens() - 1);
    const int length = rng_.chance(5) ? most + rng_.below(3) : rng_.between(1, most);
    const int shared = rng_.below(length + 1);
    const int text = rng_.below(3);
    std::vector<TokenId> prompt;
    for (int i = 0; i < length; ++i) prompt.push_back(i < shared ? text : 10 + rng_.below(3));
    return prompt;
  }

  void arrive() {
    if (scheduler_.num_sequences() >= 40) return;
    while (rng_.chance(setup_.arrival_percent)) {
      SequenceSpec spec;
      spec.id = SequenceId(next_id_++);
      spec.prompt = draw_prompt();
      spec.max_tokens = rng_.between(1, 60);
      if (setup_.priorities) spec.priority = rng_.below(3);
      spec.tenant.assign(1, rng_.chance(50) ? 'a' : 'b');
      spec.adapter = AdapterId(rng_.chance(10) ? 1 : 0);
      if (rng_.chance(15)) spec.deadline = now_ + Duration(rng_.below(60));
      spec.use_prefix_cache = rng_.chance(90);
      spec.score_prompt = rng_.chance(10);
      const auto size = static_cast<int64_t>(spec.prompt.size());
      const SequenceId id = spec.id;
      Live live{fmt::format("{}{}", spec.tenant, spec.adapter.value), 0, 0, 0, true, false};
      if (rng_.chance(40)) live.forced_end = static_cast<int>(size) + rng_.between(1, 20);
      const bool fits = size + 1 <= scheduler_.max_sequence_tokens();
      const Status added = scheduler_.add(std::move(spec));
      check(added.ok() == fits, "a prompt is refused exactly when it can never fit");
      if (!added.ok()) continue;
      live.arrival = scheduler_.find(id)->arrival;
      live_.emplace(id, live);
      ++result_.sequences;
    }
  }

  SequenceId any_live() {
    auto it = live_.begin();
    std::advance(it, rng_.below(static_cast<int>(live_.size())));
    return it->first;
  }

  // Each sequence ends once: here.
  void end(SequenceId id) {
    const Sequence* sequence = scheduler_.find(id);
    check(sequence != nullptr && live_.contains(id), "a sequence is lost");
    if (sequence != nullptr) {
      result_.most_preemptions = std::max<int64_t>(result_.most_preemptions, sequence->preemptions);
    }
    check(scheduler_.remove(id), "a sequence is lost");
    check(!scheduler_.remove(id), "a sequence ends twice");
    live_.erase(id);
    trace(id.value);
  }

  void abort_some(int percent) {
    while (!live_.empty() && rng_.chance(percent)) end(any_live());
  }

  void fork_one() {
    if (live_.empty() || !rng_.chance(20)) return;
    const SequenceId parent = any_live();
    const SequenceId child(next_id_++);
    if (!scheduler_.fork(parent, child)) return;
    Live live = live_.at(parent);
    live.waiting = false;
    live.bypassed = 0;
    live.arrival = scheduler_.find(child)->arrival;
    live_.emplace(child, live);
    ++result_.sequences;
  }

  void step() {
    ++result_.steps;
    now_ += Duration(rng_.below(3));
    abort_some(3);
    for (const SequenceId id : scheduler_.expired(now_)) end(id);
    fork_one();
    if (rng_.chance(1)) scheduler_.kv().clear_prefix_cache();

    const StepPlan& plan = scheduler_.schedule();
    check(scheduler_.check_integrity());
    check(!plan.empty() || live_.empty() || !drawing_.empty(),
          "no progress while something is runnable");
    check_plan(plan);
    note_admissions();
    build_batch(plan, scheduler_.kv().num_groups(), setup_.geometry.block_size, batch_);
    run_model(plan);

    std::vector<int> free_blocks;
    for (int g = 0; g < scheduler_.kv().num_groups(); ++g) {
      free_blocks.push_back(scheduler_.kv().free_blocks(g));
    }
    abort_some(5);  // while the step is in flight
    if (setup_.overlap) update();
    for (int g = 0; g < scheduler_.kv().num_groups(); ++g) {
      check(scheduler_.kv().free_blocks(g) == free_blocks[static_cast<size_t>(g)],
            "a block is free while the step is in flight");
    }
    check(scheduler_.check_integrity());
    note_committed(plan);
    sampling_.clear();
    for (const LogitRow& row : batch_.rows) {
      const bool live = row.sequence->state != Sequence::State::kFinished;
      if (row.draws && live) sampling_.push_back(row.sequence);
    }
    scheduler_.commit();
    check(scheduler_.check_integrity());
    sample();
    if (!setup_.overlap) update();
    check(scheduler_.check_integrity());
    if (rng_.chance(30)) replay_.follow(events());
  }

  void check_plan(const StepPlan& plan) {
    int tokens = 0;
    for (const PlannedRun& run : plan) {
      tokens += run.count;
      trace(run.sequence->id.value * 1000 + static_cast<uint64_t>(run.first));
      trace(static_cast<uint64_t>(run.count));
    }
    check(tokens <= setup_.options.max_num_batched_tokens, "over the token budget");
    check(static_cast<int>(plan.size()) <= setup_.options.max_num_seqs, "too many sequences");
  }

  // Counts bypasses from outside; and whether a prefix hit was really computed for that tenant.
  void note_admissions() {
    std::vector<uint64_t> admitted;
    for (auto& [id, live] : live_) {
      const Sequence& s = *scheduler_.find(id);
      const bool waits = s.state == Sequence::State::kWaiting;
      if (live.waiting && !waits) {
        admitted.push_back(live.arrival);
        const int hit = s.num_computed_tokens;
        check(hit < s.num_tokens(), "a prefix hit leaves nothing to compute");
        check(hit == 0 || s.use_prefix_cache, "a prefix hit without leave");
        check(s.num_scored >= s.score_end || hit <= s.num_scored, "a hit hides prompt logprobs");
        check(hit == 0 || computed_.contains(prefix_key(live, s, hit)), "a hit across tenants");
      }
      // One that was preempted in this step still ran when the first were admitted.
      live.bypassable = waits && live.waiting;
      live.waiting = waits;
    }
    for (auto& [id, live] : live_) {
      if (!live.bypassable) continue;
      for (const uint64_t arrival : admitted) live.bypassed += arrival > live.arrival;
      result_.most_bypassed = std::max<int64_t>(result_.most_bypassed, live.bypassed);
      check(live.bypassed <= setup_.options.max_bypass, "bypassed beyond the bound");
    }
  }

  std::pair<std::string, uint64_t> prefix_key(const Live& live, const Sequence& s, int tokens) {
    uint64_t hash = static_cast<uint64_t>(tokens);
    for (int i = 0; i < tokens; ++i) {
      hash = mix64(hash ^ static_cast<uint64_t>(s.tokens[static_cast<size_t>(i)]));
    }
    return {live.tenant, hash};
  }

  void note_committed(const StepPlan& plan) {
    const int size = setup_.geometry.block_size;
    for (const PlannedRun& run : plan) {
      if (run.sequence->state == Sequence::State::kFinished) continue;
      const Live& live = live_.at(run.sequence->id);
      for (int end = (run.first / size + 1) * size; end <= run.first + run.count; end += size) {
        computed_.insert(prefix_key(live, *run.sequence, end));
      }
    }
  }

  void run_model(const StepPlan& plan) {
    Batch& batch = batch_.batch;
    result_.drawn += static_cast<int64_t>(batch.drawn.size());
    check(setup_.overlap || batch.drawn.empty(), "a token is not known without overlap");
    check(fill_drawn_tokens(sampled_, batch));
    memory_.write(batch);
    for (const GroupBatch& group : batch.kv) {
      result_.copies += static_cast<int64_t>(group.copies.size());
      for (const int32_t block : group.block_tables) trace(static_cast<uint64_t>(block));
    }
    for (size_t i = 0; i < plan.size(); ++i) {
      std::vector<TokenId> tokens = plan[i].sequence->tokens;
      const int last = plan[i].first + plan[i].count - 1;
      tokens[static_cast<size_t>(last)] =
          batch.tokens[static_cast<size_t>(batch.query_start_loc[i + 1]) - 1];
      for (const int position : {plan[i].first, last}) {
        const uint64_t seen = memory_.read(batch, static_cast<int>(i), position);
        check(seen == expected_history(setup_.geometry, tokens, position),
              "the cache holds other tokens than the sequence");
      }
    }
    check(memory_.error().empty(), memory_.error());
    int scored = 0;
    for (const LogitRow& row : batch_.rows) scored += !row.draws;
    check(scored <= setup_.options.max_prompt_logprob_rows, "too many rows of prompt logprobs");
  }

  // Draws for those that have caught up; what was drawn is known to them with update().
  void sample() {
    sampled_.assign(sampling_.size(), {});
    drawing_.clear();
    for (size_t i = 0; i < sampling_.size(); ++i) {
      sampled_[i].token = rng_.below(2);
      scheduler_.expect(*sampling_[i], static_cast<int>(i));
      drawing_.push_back(sampling_[i]->id);
    }
  }

  void update() {
    for (size_t i = 0; i < drawing_.size(); ++i) {
      const SequenceId id = drawing_[i];
      Sequence* s = scheduler_.find(id);
      if (s == nullptr) continue;
      scheduler_.resolve(*s, sampled_[i].token);
      if (s->num_tokens() == s->max_total_tokens || s->num_tokens() == live_.at(id).forced_end) {
        end(id);
      }
    }
    drawing_.clear();
  }

  const KvEventLog& events() const { return scheduler_.kv().events(); }

  void finish() {
    check(live_.empty(), "a sequence is left");
    for (int g = 0; g < scheduler_.kv().num_groups(); ++g) {
      check(scheduler_.kv().pool(g).num_owned() == 0, "a block is left");
      check(scheduler_.kv().pool(g).num_pending() == 0, "a block stays pending");
    }
    replay_.follow(events());
    size_t cached = 0;
    for (int g = 0; g < scheduler_.kv().num_groups(); ++g) {
      const PrefixCache& cache = scheduler_.kv().prefix_cache(g);
      cached += static_cast<size_t>(cache.size());
      for (int i = 0; i < scheduler_.kv().pool(g).num_blocks(); ++i) {
        const auto hash = cache.hash_of(BlockId(i));
        check(!hash || replay_.index.contains({g, hash->low64()}), "an event is missing");
      }
    }
    check(cached == replay_.index.size(), "the replayed events give another index");
  }

  Rng rng_;
  Setup setup_;
  Scheduler scheduler_;
  FakeKvMemory memory_;
  StepBatch batch_;
  std::vector<Sequence*> sampling_;    // in the step being committed
  std::vector<SequenceId> drawing_;    // whose tokens are drawn and not yet known
  std::vector<SampledToken> sampled_;  // [drawing_]
  KvEventReplay replay_;
  TimePoint now_{};
  uint64_t next_id_ = 1;
  std::map<SequenceId, Live> live_;
  std::set<std::pair<std::string, uint64_t>> computed_;
  SimulationResult result_;
};

}  // namespace

SimulationResult simulate(uint64_t seed) {
  return Simulation(seed).run();
}

}  // namespace pelton
