// Scheduler::schedule() and its parts: who computes how many tokens in the step, who is admitted,
// who gives way.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "scheduler/scheduler.h"

namespace pelton {

namespace {

// How many of the waiting are looked at when the first does not fit.
constexpr int kLookahead = 8;
// What a step leaves to prompts, however many decode: in tokens' worth, and in tokens of the first.
constexpr double kMinPromptWork = 16;
constexpr int kMinPromptTokens = 8;

}  // namespace

template <typename Chosen>
void Scheduler::run_all(Chosen chosen) {
  // By index: run() may preempt sequences after the one at hand, never before.
  for (size_t i = 0; i < running_.size(); ++i) {
    if (chosen(*running_[i])) run(*running_[i], i);
  }
}

// Whether `a` goes before `b` for a better reason than its arrival.
bool Scheduler::outranks(const Sequence& a, const Sequence& b) {
  if (a.overdue || b.overdue) return !b.overdue;
  return a.priority < b.priority;
}

const StepPlan& Scheduler::schedule() {
  PELTON_CHECK(!in_flight_, "a step is in flight");
  ++step_;
  budget_ = options_.max_num_batched_tokens;
  work_left_ = step_work_;
  prompt_scheduled_ = false;
  score_rows_ = options_.max_prompt_logprob_rows;
  short_of_blocks_ = false;
  std::fill(reserved_.begin(), reserved_.end(), 0);
  for (const Sequence* sequence : running_) {
    if (sequence->reserved) reserve(*sequence, 1);
  }
  // Those that lack a single token go first: a long prompt must not hold up the answers that
  // stream, and they always fit, as the budget is at least the number of seats.
  run_all([](const Sequence& s) { return s.num_uncomputed() == 1; });
  work_left_ = std::max(work_left_, kMinPromptWork);
  // Then prompts, by rank; those that wait come after their equals that run.
  const Sequence* head = waiting_.empty() ? nullptr : *waiting_.begin();
  run_all([head](const Sequence& s) {
    return s.num_uncomputed() > 1 && (head == nullptr || !outranks(*head, s));
  });
  if (!short_of_blocks_) admit();
  run_all([](const Sequence& s) { return s.num_uncomputed() > 1 && s.scheduled_tokens == 0; });
  note_starved();

  plan_.clear();
  for (Sequence* sequence : running_) {
    if (sequence->scheduled_tokens == 0) continue;
    plan_.push_back({sequence, sequence->num_computed_tokens, sequence->scheduled_tokens});
  }
  const auto drawing = [](const auto& entry) { return entry.second->drawn_row >= 0; };
  PELTON_CHECK(!plan_.empty() || sequences_.empty() ||
                   std::any_of(sequences_.begin(), sequences_.end(), drawing),
               "no progress");
  kv_.begin_step();
  in_flight_ = true;
  return plan_;
}

void Scheduler::run(Sequence& sequence, size_t index) {
  const int first = sequence.num_computed_tokens;
  const int most = std::min({sequence.num_uncomputed(), budget_, kv_.max_chunk_tokens()});
  const int want = limit_rows(sequence, first, limit_work(first, most));
  if (want <= 0) return;
  if (sequence.reserved) reserve(sequence, -1);  // its own share is for it
  int granted = kv_.grow(sequence, want, reserved_);
  while (granted == 0) {
    // The lowest rank gives way, down to this sequence; one that was preempted to the bound never.
    short_of_blocks_ = true;
    const auto first_after = running_.rend() - static_cast<std::ptrdiff_t>(index) - 1;
    const auto victim = std::find_if(running_.rbegin(), first_after,
                                     [](const Sequence* s) { return !s->reserved; });
    if (victim == first_after) break;
    preempt(**victim);
    granted = kv_.grow(sequence, want, reserved_);
  }
  schedule_tokens(sequence, granted);
  if (sequence.reserved) reserve(sequence, 1);
}

// Prompt positions of [first, first + count) whose logits are wanted.
int Scheduler::num_rows(const Sequence& sequence, int first, int count) {
  const int from = std::max(first, sequence.num_scored);
  return std::max(0, std::min(first + count, sequence.score_end) - from);
}

// How many of `count` tokens from `first` on leave the step within its rows of prompt logprobs.
int Scheduler::limit_rows(const Sequence& sequence, int first, int count) const {
  if (num_rows(sequence, first, count) <= score_rows_) return count;
  return std::max(first, sequence.num_scored) + score_rows_ - first;
}

double Scheduler::work_of(int first, int count) const {
  const double context = first + 0.5 * count;
  const int unit = options_.context_per_token;
  return unit > 0 ? count * (1 + context / unit) : count;
}

double Scheduler::planned_work() const {
  double work = 0;
  for (const PlannedRun& run : plan_) work += work_of(run.first, run.count);
  return work;
}

bool Scheduler::work_left() const {
  return step_work_ == 0 || !prompt_scheduled_ || work_left_ >= 1;
}

int Scheduler::limit_work(int first, int count) const {
  if (step_work_ == 0 || count <= 1) return count;
  // n (1 + (first + n / 2) / unit) = work left
  const double left = std::max(work_left_, 0.0);
  double affordable = left;
  if (options_.context_per_token > 0) {
    const double unit = options_.context_per_token;
    const double b = unit + first;
    affordable = std::sqrt(b * b + 2 * unit * left) - b;
  }
  if (!prompt_scheduled_) affordable = std::max<double>(affordable, kMinPromptTokens);
  return static_cast<int>(std::min<double>(affordable, count));
}

void Scheduler::schedule_tokens(Sequence& sequence, int count) {
  sequence.scheduled_tokens = count;
  prompt_scheduled_ |= count > 1;
  work_left_ -= work_of(sequence.num_computed_tokens, count);
  budget_ -= count;
  score_rows_ -= num_rows(sequence, sequence.num_computed_tokens, count);
}

// A later arrival of better priority had tokens while this one had none: that is a bypass too.
void Scheduler::note_starved() {
  uint64_t newest = 0;
  for (const Sequence* sequence : running_) {
    if (sequence->scheduled_tokens > 0 && sequence->num_uncomputed() > 1) {
      newest = std::max(newest, sequence->arrival);
    }
  }
  const std::vector<Sequence*> by_rank = running_;
  for (Sequence* sequence : by_rank) {
    // Nobody goes before the overdue; they lack tokens only where blocks are reserved for another.
    const bool starved = sequence->scheduled_tokens == 0 && sequence->arrival < newest;
    if (starved && !sequence->overdue) bypass(*sequence);
  }
}

void Scheduler::admit() {
  for (int g = 0; g < kv_.num_groups() && !waiting_.empty(); ++g) {
    int& promised = promised_[static_cast<size_t>(g)];
    promised = 0;
    for (const Sequence* sequence : running_) promised += promised_blocks(g, *sequence);
  }
  int looked = 0;
  const Sequence* blocked = nullptr;  // the first that did not fit
  for (auto it = waiting_.begin();
       it != waiting_.end() && budget_ > 0 && work_left() && looked < kLookahead;) {
    Sequence& sequence = **it;
    // A sequence that does not fit may be bypassed by its equals, until it is overdue. One of less
    // priority would only be preempted for it a step later.
    if (blocked != nullptr && (blocked->overdue || sequence.priority != blocked->priority)) return;
    if (sequence.preempted_step == step_) return;  // it has just made room
    if (sequence.blocked_step == step_) {
      blocked = blocked == nullptr ? &sequence : blocked;
      ++it;
      continue;
    }
    const bool rows = score_rows_ > 0 || sequence.num_scored >= sequence.score_end;
    if (rows && (try_admit(sequence) || (make_room(sequence) && try_admit(sequence)))) {
      note_bypass(sequence);
      it = waiting_.begin();  // ranks may have changed
      blocked = nullptr;
    } else {
      if (num_running() >= options_.max_num_seqs) return;
      sequence.blocked_step = step_;
      blocked = blocked == nullptr ? &sequence : blocked;
      ++it;
      ++looked;
    }
  }
}

bool Scheduler::try_admit(Sequence& sequence) {
  if (num_running() >= options_.max_num_seqs) return false;
  const int hit = kv_.find_prefix(sequence, hit_limit(sequence));
  const int most = std::min({sequence.num_tokens() - hit, budget_, kv_.max_chunk_tokens()});
  const int want = limit_rows(sequence, hit, limit_work(hit, most));
  if (want <= 0 || !fits(sequence, hit)) return false;
  start(sequence, hit, want);
  return true;
}

// A sequence is admitted only when the blocks for all its tokens are there, beyond what those that
// run still need for theirs: two half-computed prompts must not wait for each other.
bool Scheduler::fits(const Sequence& sequence, int hit_tokens) const {
  for (int g = 0; g < kv_.num_groups(); ++g) {
    const int cost = kv_.admission_cost(g, sequence, hit_tokens, tokens_to_hold(sequence));
    if (cost > available_blocks(g)) return false;
  }
  return true;
}

void Scheduler::start(Sequence& sequence, int hit_tokens, int want) {
  leave_queue(sequence);
  kv_.attach_prefix(sequence, hit_tokens);
  const int granted = kv_.grow(sequence, want, reserved_);
  PELTON_CHECK(granted > 0, "an admitted sequence fits");
  sequence.state = Sequence::State::kRunning;
  schedule_tokens(sequence, granted);
  sequence.reserved = sequence.preemptions >= options_.max_preemptions;
  if (sequence.reserved) reserve(sequence, 1);
  insert_running(sequence);
  for (int g = 0; g < kv_.num_groups(); ++g) {
    promised_[static_cast<size_t>(g)] += promised_blocks(g, sequence);
  }
  if (!sequence.admitted_once && sequence.use_prefix_cache) {
    stats_.prefix_cache_queries += sequence.num_tokens();
    stats_.prefix_cache_hits += hit_tokens;
    sequence.cached_tokens = hit_tokens;
  }
  sequence.admitted_once = true;
}

// Preempts running sequences of strictly less priority, if that will let this one in.
bool Scheduler::make_room(const Sequence& sequence) {
  std::vector<Sequence*> victims;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    if ((*it)->priority <= sequence.priority || (*it)->overdue) break;
    if (!(*it)->reserved) victims.push_back(*it);
  }
  if (victims.empty()) return false;
  std::vector<int> gained(reserved_.size());
  size_t count = 0;
  while (!fits_with(sequence, static_cast<int>(count), gained)) {
    if (count == victims.size()) return false;
    for (int g = 0; g < kv_.num_groups(); ++g) {
      gained[static_cast<size_t>(g)] +=
          kv_.exclusive_blocks(g, *victims[count]) + promised_blocks(g, *victims[count]);
    }
    ++count;
  }
  for (Sequence* victim : std::span(victims).first(count)) {
    for (int g = 0; g < kv_.num_groups(); ++g) {
      promised_[static_cast<size_t>(g)] -= promised_blocks(g, *victim);
    }
    preempt(*victim);
  }
  return true;
}

// Whether it fits once `seats` sequences have left and set `gained` [groups] blocks free.
bool Scheduler::fits_with(const Sequence& sequence, int seats, std::span<const int> gained) const {
  if (num_running() - seats >= options_.max_num_seqs) return false;
  for (int g = 0; g < kv_.num_groups(); ++g) {
    const int needed = kv_.peak_blocks(g, tokens_to_hold(sequence));
    if (needed > available_blocks(g) + gained[static_cast<size_t>(g)]) return false;
  }
  return true;
}

// The tokens for which an admission must find blocks: those it has; once preempted to the bound,
// all that it may ever have, as it will not be preempted again.
int Scheduler::tokens_to_hold(const Sequence& sequence) const {
  return sequence.preemptions >= options_.max_preemptions ? sequence.max_total_tokens - 1
                                                          : sequence.num_tokens();
}

int Scheduler::available_blocks(int group) const {
  const size_t i = static_cast<size_t>(group);
  // Some slack, as the answers of those that run grow.
  const int slack = running_.empty() ? 0 : kv_.pool(group).num_blocks() / 100;
  return kv_.free_blocks(group) - reserved_[i] - promised_[i] - slack;
}

// Leaves one token to compute, or there would be no logits; and all whose logits are wanted.
int Scheduler::hit_limit(const Sequence& sequence) const {
  const int limit = sequence.num_tokens() - 1;
  return sequence.num_scored < sequence.score_end ? std::min(limit, sequence.num_scored) : limit;
}

void Scheduler::reserve(const Sequence& sequence, int sign) {
  for (int g = 0; g < kv_.num_groups(); ++g) {
    const size_t i = static_cast<size_t>(g);
    reserved_[i] +=
        sign * (kv_.peak_blocks(g, sequence.max_total_tokens - 1) - sequence.tables[i].num_held());
  }
}

// Blocks that a running sequence still needs for the tokens it has.
int Scheduler::promised_blocks(int group, const Sequence& sequence) const {
  if (sequence.reserved || sequence.num_uncomputed() == sequence.scheduled_tokens) return 0;
  return std::max(0, kv_.peak_blocks(group, sequence.num_tokens()) -
                         sequence.tables[static_cast<size_t>(group)].num_held());
}

}  // namespace pelton
