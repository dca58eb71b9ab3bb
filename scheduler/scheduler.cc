#include "scheduler/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "core/check.h"

namespace pelton {

bool Scheduler::RanksBefore::operator()(const Sequence* a, const Sequence* b) const {
  const auto key = [](const Sequence* s) {
    return std::tuple(!s->overdue, s->overdue ? 0 : s->priority, s->arrival);
  };
  return key(a) < key(b);
}

Scheduler::Scheduler(SchedulerOptions options, const KvGeometry& geometry,
                     std::span<const int> num_blocks, std::unique_ptr<BlockHasher> hasher)
    : options_(options),
      kv_(geometry, num_blocks, options.max_num_batched_tokens, std::move(hasher)),
      max_sequence_tokens_(std::min(options.max_model_len, kv_.max_sequence_tokens())),
      reserved_(num_blocks.size()),
      promised_(num_blocks.size()) {
  step_work_ = options.step_work;
  PELTON_CHECK(options.max_num_seqs > 0 && options.max_num_batched_tokens >= options.max_num_seqs &&
                   options.max_prompt_logprob_rows > 0,
               "scheduler options");
}

Status Scheduler::check_prompt(int64_t prompt_tokens) const {
  if (prompt_tokens < 1) return invalid_field("prompt", "it has no tokens");
  if (prompt_tokens + 1 <= max_sequence_tokens_) return absl::OkStatus();
  Status status = invalid_field(
      "prompt", fmt::format("{} tokens and one to answer exceed the context of {} tokens",
                            prompt_tokens, max_sequence_tokens_));
  set_error_reason(status, "CONTEXT_LENGTH_EXCEEDED");
  return status;
}

Status Scheduler::add(SequenceSpec spec) {
  PELTON_RETURN_IF_ERROR(check_prompt(static_cast<int64_t>(spec.prompt.size())));
  if (sequences_.contains(spec.id)) return absl::AlreadyExistsError("sequence id in use");
  auto made = std::make_unique<Sequence>();
  Sequence& sequence = *made;
  sequence.id = spec.id;
  sequence.tokens = std::move(spec.prompt);
  sequence.num_prompt_tokens = sequence.num_tokens();
  sequence.max_total_tokens = static_cast<int>(std::min<int64_t>(
      max_sequence_tokens_, int64_t{sequence.num_tokens()} + std::max(1, spec.max_tokens)));
  sequence.priority = spec.priority;
  sequence.adapter = spec.adapter;
  sequence.deadline = spec.deadline;
  sequence.use_prefix_cache = spec.use_prefix_cache;
  sequence.score_end = spec.score_prompt ? sequence.num_prompt_tokens - 1 : 0;
  sequence.arrival = next_arrival_++;
  kv_.open(sequence, spec.tenant);
  if (spec.deadline != TimePoint::max()) deadlines_.emplace(spec.deadline, spec.id);
  sequences_.emplace(spec.id, std::move(made));
  enqueue(sequence);
  return absl::OkStatus();
}

bool Scheduler::fork(SequenceId parent_id, SequenceId child_id) {
  const Sequence* parent = find(parent_id);
  // A reserved parent's account holds no block for a copy, and nobody who waits may be bypassed.
  if (parent == nullptr || parent->state != Sequence::State::kRunning || parent->reserved ||
      parent->drawn_row >= 0 || !waiting_.empty() || in_flight_ ||
      num_running() >= options_.max_num_seqs || sequences_.contains(child_id)) {
    return false;
  }
  auto made = std::make_unique<Sequence>();
  Sequence& child = *made;
  child.id = child_id;
  child.tokens = parent->tokens;
  child.num_prompt_tokens = parent->num_prompt_tokens;
  child.max_total_tokens = parent->max_total_tokens;
  child.priority = parent->priority;
  child.adapter = parent->adapter;
  child.deadline = parent->deadline;
  child.use_prefix_cache = parent->use_prefix_cache;
  child.arrival = next_arrival_++;
  child.admitted_once = true;
  child.cached_tokens = parent->cached_tokens;
  kv_.fork(*parent, child);
  if (child.deadline != TimePoint::max()) deadlines_.emplace(child.deadline, child_id);
  sequences_.emplace(child_id, std::move(made));
  child.state = Sequence::State::kRunning;
  insert_running(child);
  return true;
}

bool Scheduler::remove(SequenceId id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return false;
  Sequence& sequence = *found->second;
  if (sequence.state == Sequence::State::kWaiting) {
    leave_queue(sequence);
  } else {
    erase_running(sequence);
    kv_.release(sequence);
  }
  deadlines_.erase({sequence.deadline, id});
  sequence.state = Sequence::State::kFinished;
  if (in_flight_) removed_.push_back(std::move(found->second));
  sequences_.erase(found);
  return true;
}

std::vector<SequenceId> Scheduler::expired(TimePoint now) const {
  std::vector<SequenceId> ids;
  for (const auto& [deadline, id] : deadlines_) {
    if (deadline > now) break;
    ids.push_back(id);
  }
  return ids;
}

Sequence* Scheduler::find(SequenceId id) const {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

void Scheduler::commit() {
  PELTON_CHECK(in_flight_, "commit without a step");
  for (const PlannedRun& run : plan_) {
    Sequence& sequence = *run.sequence;
    if (sequence.state != Sequence::State::kRunning) continue;
    PELTON_CHECK(sequence.drawn_row < 0, "a commit of a token whose id is not known");
    const int end = run.first + run.count;
    kv_.commit(sequence, run.first, end);
    sequence.num_computed_tokens = end;
    sequence.scheduled_tokens = 0;
    sequence.num_scored = std::max(sequence.num_scored, std::min(end, sequence.score_end));
  }
  kv_.end_step();
  in_flight_ = false;
  plan_.clear();
  removed_.clear();
}

void Scheduler::expect(Sequence& sequence, int row) {
  PELTON_CHECK(sequence.num_uncomputed() == 0 && sequence.num_tokens() < sequence.max_total_tokens,
               "a token for a sequence that has not caught up or is full");
  PELTON_CHECK(sequence.drawn_row < 0, "a token before the last one is known");
  sequence.tokens.push_back(0);
  sequence.drawn_row = row;
}

void Scheduler::resolve(Sequence& sequence, TokenId token) {
  PELTON_CHECK(sequence.drawn_row >= 0, "a token that was not drawn");
  sequence.tokens.back() = token;
  sequence.drawn_row = -1;
}

void Scheduler::enqueue(Sequence& sequence) {
  sequence.state = Sequence::State::kWaiting;
  sequence.uncached_tokens = sequence.num_tokens() - kv_.find_prefix(sequence, hit_limit(sequence));
  waiting_uncached_tokens_ += sequence.uncached_tokens;
  waiting_.insert(&sequence);
}

void Scheduler::leave_queue(Sequence& sequence) {
  waiting_uncached_tokens_ -= sequence.uncached_tokens;
  waiting_.erase(&sequence);
}

void Scheduler::preempt(Sequence& sequence) {
  // What this step had already given it goes back.
  budget_ += sequence.scheduled_tokens;
  work_left_ += work_of(sequence.num_computed_tokens, sequence.scheduled_tokens);
  score_rows_ += num_rows(sequence, sequence.num_computed_tokens, sequence.scheduled_tokens);
  sequence.scheduled_tokens = 0;
  erase_running(sequence);
  kv_.release(sequence);
  ++sequence.preemptions;
  ++stats_.preemptions;
  sequence.preempted_step = step_;
  // Its blocks will be reserved, and a window group gets back what slides out of the window; a
  // block shared with another would not come back, so it shares none from here on.
  if (sequence.preemptions >= options_.max_preemptions && kv_.has_windows()) {
    sequence.use_prefix_cache = false;
  }
  enqueue(sequence);
}

void Scheduler::bypass(Sequence& sequence) {
  if (++sequence.bypassed < options_.max_bypass || sequence.overdue) return;
  // Its rank changes.
  if (sequence.state == Sequence::State::kWaiting) {
    waiting_.erase(&sequence);
    sequence.overdue = true;
    waiting_.insert(&sequence);
  } else {
    erase_running(sequence);
    sequence.overdue = true;
    insert_running(sequence);
  }
}

void Scheduler::note_bypass(const Sequence& admitted) {
  std::vector<Sequence*> passed;
  for (Sequence* waiting : waiting_) {
    if (waiting->arrival < admitted.arrival) passed.push_back(waiting);
  }
  for (Sequence* waiting : passed) bypass(*waiting);
}

void Scheduler::insert_running(Sequence& sequence) {
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, RanksBefore()),
                  &sequence);
}

void Scheduler::erase_running(const Sequence& sequence) {
  running_.erase(std::find(running_.begin(), running_.end(), &sequence));
}

Load Scheduler::load() const {
  Load load;
  load.running_requests = num_running();
  load.waiting_requests = num_waiting();
  load.waiting_uncached_tokens = waiting_uncached_tokens_;
  load.total_blocks = kv_.total_blocks();
  load.used_blocks = kv_.used_blocks();
  return load;
}

Status Scheduler::check_integrity() const {
  const auto broken = [](const Sequence* s, std::string_view what) {
    return absl::InternalError(fmt::format("sequence {}: {}", s->id.value, what));
  };
  if (num_running() > options_.max_num_seqs) return absl::InternalError("too many run");
  if (!std::is_sorted(running_.begin(), running_.end(), RanksBefore())) {
    return absl::InternalError("running sequences are out of rank");
  }
  if (running_.size() + waiting_.size() != sequences_.size()) {
    return absl::InternalError("a sequence neither waits nor runs");
  }
  std::vector<const Sequence*> all;
  int64_t uncached = 0;
  for (const auto& [id, sequence] : sequences_) {
    const Sequence* s = sequence.get();
    all.push_back(s);
    const bool waits = waiting_.contains(sequence.get());
    if (waits != (s->state == Sequence::State::kWaiting)) return broken(s, "wrong state");
    if (waits && s->num_computed_tokens != 0) return broken(s, "waits and holds KV");
    if (waits) uncached += s->uncached_tokens;
    if (s->num_computed_tokens + s->scheduled_tokens > s->num_tokens()) return broken(s, "ahead");
    if (s->num_tokens() > s->max_total_tokens) return broken(s, "too long");
    if (s->preemptions > options_.max_preemptions) return broken(s, "preempted too often");
    if (s->bypassed > options_.max_bypass) return broken(s, "bypassed too often");
  }
  if (uncached != waiting_uncached_tokens_) return absl::InternalError("waiting tokens");
  PELTON_RETURN_IF_ERROR(kv_.check_integrity(all));
  for (int g = 0; g < kv_.num_groups(); ++g) {
    int reserved = 0;
    for (const Sequence* s : running_) {
      if (!s->reserved) continue;
      reserved += kv_.peak_blocks(g, s->max_total_tokens - 1) -
                  s->tables[static_cast<size_t>(g)].num_held();
    }
    if (reserved > kv_.free_blocks(g) + kv_.pool(g).num_pending()) {
      return absl::InternalError("reserved blocks are gone");
    }
  }
  return absl::OkStatus();
}

}  // namespace pelton
