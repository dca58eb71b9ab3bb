#include "scheduler/engine_loop.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "core/check.h"

namespace pelton {
namespace {

// As many prompt tokens as a detokeniser may want to see before the answer.
constexpr size_t kPromptTail = 16;

SequenceId sequence_of(RequestId id) {
  return SequenceId(id.value);
}

SchedulerOptions scheduler_options(const EngineOptions& options) {
  SchedulerOptions out;
  out.max_model_len = std::max(2, options.max_model_len);
  out.max_num_batched_tokens = std::max(1, options.max_num_batched_tokens);
  out.max_num_seqs = std::clamp(options.max_num_seqs, 1, out.max_num_batched_tokens);
  out.step_work = std::max(0, options.step_work);
  out.context_per_token = std::max(0, options.context_per_token);
  out.max_prompt_logprob_rows = std::max(1, options.max_prompt_logprob_rows);
  return out;
}

}  // namespace

EngineLoop::EngineLoop(EngineOptions options, std::unique_ptr<ModelRunner> runner,
                       const TextStreamFactory* text, const Clock* clock,
                       std::unique_ptr<BlockHasher> hasher, EngineInbox* inbox)
    : options_(std::move(options)),
      runner_(std::move(runner)),
      text_(text),
      clock_(clock),
      overlap_(options_.async_scheduling.value_or(runner_->asynchronous())),
      inbox_(inbox),
      scheduler_(scheduler_options(options_), runner_->kv_geometry(), runner_->num_blocks(),
                 std::move(hasher)) {
  publish();
}

bool EngineLoop::step() {
  take_mail();
  end_expired();
  const bool work = in_flight_ || scheduler_.num_sequences() > 0;
  if (work) advance();
  deliver();
  publish();
  return work;
}

// With overlap the step made here is on the device before the one before it is collected: its
// sequences count a token each that is still being drawn. One that ends with that token has been
// computed once too often, but is sampled no more; nothing of it is shown or counted.
void EngineLoop::advance() {
  const TimePoint began = clock_->now();
  const StepPlan& plan = scheduler_.schedule();
  const bool computes = !plan.empty();
  const double planned = scheduler_.planned_work();
  // With overlap the step before is waited for as well.
  const int64_t work_before = in_flight_ ? work_ : 0;
  work_ = step_work(plan);
  step_bound_.begin(std::max(work_, work_before));
  Status status = computes ? launch(plan) : absl::OkStatus();
  if (status.ok()) status = finish();
  // The device's errors end all that is in flight; nothing of the step becomes visible then.
  if (!status.ok()) fail_all(status);
  if (computes) make_rows();
  scheduler_.commit();
  if (computes && status.ok()) {
    status = sample();
    if (status.ok() && !overlap_) status = finish();
    if (!status.ok()) fail_all(status);
    ++stats_.steps;
  }
  const Duration took = clock_->now() - began;
  step_bound_.end(took);
  if (computes && status.ok() && !overlap_) learn_rate(planned, to_seconds(took));
}

void EngineLoop::learn_rate(double work, double seconds) {
  const double bound = scheduler_.step_work();
  if (options_.step_seconds <= 0 || bound == 0 || seconds <= 0 || work < bound / 2) return;
  const double possible = work * options_.step_seconds / seconds;
  // By small degrees, as one step may be lucky.
  if (possible > 1.1 * bound) {
    scheduler_.raise_step_work(static_cast<int>(std::min(possible, 1.1 * bound + 1)));
  }
}

Status EngineLoop::launch(const StepPlan& plan) {
  note_scheduled(plan);
  build_batch(plan, scheduler_.kv().num_groups(), scheduler_.kv().block_size(), step_);
  return runner_->forward(step_.batch);
}

Status EngineLoop::sample() {
  PELTON_RETURN_IF_ERROR(runner_->sample(sample_rows_));
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].draws) scheduler_.expect(*rows_[i].sequence, static_cast<int>(i));
  }
  in_flight_ = true;
  return absl::OkStatus();
}

// Waits for the results of the last sample(), if there is one, and hands them to their requests.
Status EngineLoop::finish() {
  if (!std::exchange(in_flight_, false)) return absl::OkStatus();
  PELTON_ASSIGN_OR_RETURN(std::vector<SampledToken> sampled, runner_->collect());
  if (sampled.size() != rows_.size()) {
    return absl::InternalError("the model gave another number of results than was asked for");
  }
  const TimePoint now = clock_->now();
  for (size_t i = 0; i < sampled.size(); ++i) take_row(rows_[i], std::move(sampled[i]), now);
  return absl::OkStatus();
}

void EngineLoop::take_mail() {
  EngineInbox::Mail mail = inbox_->take();
  for (EngineInbox::Submission& submission : mail.submissions) admit(std::move(submission));
  for (const RequestId id : mail.aborts) {
    const auto found = requests_.find(id);
    if (found == requests_.end() || found->second->ended()) continue;
    end(*found->second, FinishReason::kAbort, absl::OkStatus());
  }
  if (!mail.end_all.ok()) end_each(FinishReason::kError, mail.end_all);
}

void EngineLoop::admit(EngineInbox::Submission submission) {
  Request& request = submission.request;
  if (request.arrival == TimePoint{}) request.arrival = clock_->now();
  SequenceSpec spec = sequence_spec(request);

  std::unique_ptr<TextStream> text;
  if (text_ != nullptr) {
    const std::span<const TokenId> prompt(spec.prompt);
    text = text_->start(prompt.last(std::min(kPromptTail, prompt.size())), request.params);
  }
  auto made = std::make_unique<EngineRequest>(request, std::move(submission.sink),
                                              options_.eos_token_ids, std::move(text));
  EngineRequest& added = *made;
  requests_.emplace(request.id, std::move(made));
  const Status status = failure_.ok() ? scheduler_.add(std::move(spec)) : failure_;
  if (!status.ok()) end(added, FinishReason::kError, status);
}

void EngineLoop::end_expired() {
  for (const SequenceId id : scheduler_.expired(clock_->now())) {
    end(*requests_.at(RequestId(id.value)), FinishReason::kAbort,
        absl::DeadlineExceededError("the deadline passed before the answer was complete"));
  }
}

void EngineLoop::note_scheduled(const StepPlan& plan) {
  const TimePoint now = clock_->now();
  for (const PlannedRun& run : plan) {
    const Sequence& sequence = *run.sequence;
    if (sequence.num_tokens() > sequence.num_prompt_tokens) continue;  // noted before
    requests_.at(RequestId(sequence.id.value))->note_scheduled(now, sequence.cached_tokens);
  }
}

// The rows of the step being made, but for requests that ended meanwhile.
void EngineLoop::make_rows() {
  sample_rows_.clear();
  rows_.clear();
  for (size_t i = 0; i < step_.rows.size(); ++i) {
    const LogitRow& row = step_.rows[i];
    EngineRequest* request = requests_.at(RequestId(row.sequence->id.value)).get();
    if (request->ended()) continue;
    const int index = static_cast<int>(i);
    const int position = row.position + 1;
    sample_rows_.push_back(
        row.draws ? request->draw_row(index, position)
                  : request->score_row(index, position,
                                       row.sequence->tokens[static_cast<size_t>(position)]));
    rows_.push_back({request, row.sequence, row.draws});
  }
}

// What goes wrong with one row ends one request.
void EngineLoop::take_row(const DrawnRow& row, SampledToken sampled, TimePoint now) {
  EngineRequest& request = *row.request;
  if (request.ended()) return;  // by an earlier row, or from outside
  if (sampled.nan) {
    end(request, FinishReason::kError, absl::InternalError("the model's output is not a number"));
  } else if (sampled.token < 0 || sampled.token >= runner_->vocab_size()) {
    end(request, FinishReason::kError, absl::InternalError("the model's output is no token"));
  } else if (!row.draws) {
    request.take_prompt_logprobs(std::move(sampled.logprobs));
  } else {
    Sequence& sequence = *row.sequence;
    if (request.num_generated() == 0) stats_.prompt_tokens += sequence.num_prompt_tokens;
    ++stats_.generation_tokens;
    scheduler_.resolve(sequence, sampled.token);
    request.take_token(std::move(sampled), sequence.num_tokens() == sequence.max_total_tokens, now);
    settle(request);
  }
}

void EngineLoop::end(EngineRequest& request, FinishReason reason, Status status) {
  request.end(reason, std::move(status), clock_->now());
  // It may have output from earlier in this step: one delivery, or it would end twice.
  const bool touched = std::find(touched_.begin(), touched_.end(), &request) != touched_.end();
  settle(request, touched);
}

// The request has output in this step, and may have ended with it.
void EngineLoop::settle(EngineRequest& request, bool touched) {
  if (!touched) touched_.push_back(&request);
  if (!request.ended()) return;
  scheduler_.remove(sequence_of(request.id()));
  ended_.push_back(request.id());
}

void EngineLoop::fail_all(const Status& cause) {
  failure_ = absl::UnavailableError("the device failed: " + std::string(cause.message()));
  set_error_reason(failure_, "DEVICE_FAILED");
  inbox_->fail(failure_);
  end_each(FinishReason::kError, failure_);
}

void EngineLoop::end_each(FinishReason reason, const Status& status) {
  for (const auto& [id, request] : requests_) {
    if (!request->ended()) end(*request, reason, status);
  }
}

void EngineLoop::deliver() {
  std::vector<std::pair<std::shared_ptr<OutputSink>, std::vector<RequestOutput>>> by_sink;
  std::unordered_map<const OutputSink*, size_t> index;
  for (EngineRequest* request : touched_) {
    const auto [found, is_new] = index.emplace(request->sink().get(), by_sink.size());
    if (is_new) by_sink.emplace_back(request->sink(), std::vector<RequestOutput>());
    by_sink[found->second].second.push_back(request->take_output());
  }
  touched_.clear();
  for (const RequestId id : ended_) requests_.erase(id);
  for (auto& [sink, outputs] : by_sink) {
    for (const RequestOutput& output : outputs) {
      if (output.finished()) ++stats_.finished[static_cast<size_t>(output.finish_reason)];
    }
    sink->deliver(std::move(outputs));
  }
}

void EngineLoop::publish() {
  const SchedulerStats& stats = scheduler_.stats();
  stats_.preemptions = stats.preemptions;
  stats_.prefix_cache_queries = stats.prefix_cache_queries;
  stats_.prefix_cache_hits = stats.prefix_cache_hits;
  inbox_->publish(ended_, scheduler_.load(), stats_);
  ended_.clear();
  if (options_.check_integrity) {
    const Status status = scheduler_.check_integrity();
    PELTON_CHECK(status.ok(), std::string(status.message()).c_str());
  }
}

void EngineLoop::end_all() {
  take_mail();
  if (const Status status = finish(); !status.ok()) fail_all(status);
  end_each(FinishReason::kAbort, absl::OkStatus());
  deliver();
  publish();
}

}  // namespace pelton
